import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    environment: "happy-dom",
    include: ["test/*.test.ts"],
    testTimeout: 60_000, // milliseconds, for a machine that is busy: no test has a bound of its own
  },
});
