// The data of the kernel: the records of lifecycle_magic/ui/panel/facts.py and event_facts.py, as
// feed.py sends them under the names of widget.py. Durations are in seconds, times in seconds since the
// epoch by the kernel's clock.

export type State =
  | "building"
  | "starting"
  | "entering"
  | "idle"
  | "busy"
  | "draining"
  | "exiting"
  | "exited"
  | "failed";

export interface Session {
  id: string;
  pid: number;
  cores: number;
  open: boolean;
}

export interface Step {
  text: string;
  status: "running" | "done" | "cached" | "failed";
  began: number;
  seconds: number | null;
  detail: string;
}

export interface ClassFacts {
  key: string;
  name: string;
  /** The name of its app; "" for a class of a cell. */
  app: string;
  variant: boolean;
  declared: boolean;
  /** The shortened error of a deployment that failed; "" without one. */
  failed: string;
  engine: string;
  image: string;
  options: string[];
  enter: string[];
  exit: string[];
  needs_arguments: boolean;
  pools: number;
  most: number;
  calls: number;
  failures: number;
  p50: number | null;
  p99: number | null;
  build: Step[];
  steps: number;
  web: Web[];
}

/** An address that answers HTTP: `url` on the kernel's machine, `link` for the user's browser as far as
 * the kernel knows. `warning` is empty, or reports another user's server on an address that clients
 * may try. */
export interface Web {
  method: string;
  port: number;
  url: string;
  link: string;
  warning: string;
}

export interface Exit {
  hook: string;
  seconds: number;
  error: string | null;
}

/** `cpu` is cores, `memory` MiB. */
export interface ContainerFacts {
  name: string;
  cls: string;
  began: number;
  grace: number;
  cpu: number | null;
  memory: number | null;
  ended: number | null;
  exits: Exit[];
  tail: string;
  /** The build hook that it runs for the image; "" for a container that takes calls. */
  build_hook: string;
}

/** state, since, calls, running, call, why, gpu */
export type LifeTuple = [State, number, number, number, number | null, string, string?];

export interface Life {
  state: State;
  since: number;
  calls: number;
  running: number;
  /** The start of the longest running call. */
  call: number | null;
  why: string;
  /** Its GPUs and their use in words; "" without any. */
  gpu: string;
}

/** A container that waits for the next kernel of its notebook. */
export interface Kept {
  name: string;
  cls: string;
  engine: string;
  notebook: string;
  /** When the wait is over; null while a call of the former kernel runs. */
  ends: number | null;
}

export interface Notice {
  id: number;
  cls: string | null;
  text: string;
  at: number;
  level: "info" | "warning";
}

/** Two figures for each time: cores and MiB. */
export interface Page {
  t?: number[];
  of?: Record<string, (number | null)[]>;
}

export interface Traits {
  session: Partial<Session>;
  classes: ClassFacts[];
  containers: ContainerFacts[];
  lives: Record<string, LifeTuple>;
  kept: Kept[];
  samples_old: Page;
  samples_new: Page;
  log_shown: string;
  log_old: string;
  log_new: string;
  /** The length of the text cut off before `log_old`, in UTF-16 units. */
  log_cut: number;
  notices: Notice[];
  acks: string[];
  beat: number;
  look: { client: string; visible: boolean; count: number } | Record<string, never>;
  follow: string;
}

/** The part of an anywidget model that the panel uses. */
export interface Model {
  get<K extends keyof Traits>(name: K): Traits[K];
  set<K extends keyof Traits>(name: K, value: Traits[K]): void;
  save_changes(): void;
  send(content: unknown): void;
  on(event: string, callback: () => void): void;
  off(event: string, callback: () => void): void;
}

export type Verb = "stop" | "restart" | "warm" | "kill";
