#!/usr/bin/env bash
# Makes a Docker engine answer and gives it the base image; run by `make engine`, safe to run again.
#
#     scripts/engine.sh [MINOR...]      base images for these Pythons, such as 3.13; default: .venv's
#     scripts/engine.sh packages MINOR  only install what the same without "packages" would install of
#                                       the distribution, so that this installs nothing more
#
# An engine that answers is used as it is. Otherwise, as root on Debian or Ubuntu, this installs the
# distribution's own packages and starts dockerd itself: in containers and minimal machines nothing
# else would start it, and a policy-rc.d often forbids services to start at install time.
# The daemon gets a session of its own, so it outlives this script; CONTRIBUTING.md says how to stop it.
set -euo pipefail

readonly socket=/var/run/docker.sock
readonly pidfile=/var/run/docker.pid
readonly containerd_pidfile=/var/run/docker/containerd/containerd.pid
readonly log=/var/log/lifecycle-magic-dockerd.log
readonly start_timeout=60 # seconds
readonly pull_timeout=20  # seconds: a closed network may hang instead of refusing

# Registries' images carry their own CA bundle, so a stand-in needs the host's to work behind a private CA.
readonly host_ca=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}

say() { printf 'engine: %s\n' "$*"; }
die() {
    printf 'engine: %s\n' "$*" >&2
    exit 1
}

answers() { command -v docker >/dev/null && timeout 10 docker version >/dev/null 2>&1; }

apt_updated=
apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    if [[ -z $apt_updated ]]; then
        apt-get update -qq
        apt_updated=yes
    fi
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# ---------------------------------------------------------------- the engine

require_debian_root() {
    command -v apt-get >/dev/null || die "no engine answers, and this is no Debian or Ubuntu: $1"
    [[ $(id -u) == 0 ]] || die "no engine answers, and only root can install and start one: $1"
}

install_engine() {
    local packages=(docker.io iptables ca-certificates cgroupfs-mount) package known=()
    apt-get update -qq
    apt_updated=yes
    # Newer releases ship the client as docker-cli and have no cgroupfs-mount.
    for package in "${packages[@]}" docker-cli; do
        if [[ -n $(apt-cache madison "$package" 2>/dev/null) ]]; then known+=("$package"); fi
    done
    say "installing ${known[*]}"
    apt_install "${known[@]}"
}

install_packages() { # minor
    command -v apt-get >/dev/null && [[ $(id -u) == 0 ]] || return 0
    if answers; then
        if docker image inspect "python:$1-slim" >/dev/null 2>&1; then return; fi
    elif ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then
        install_engine
    fi
    command -v debootstrap >/dev/null || apt_install debootstrap
}

# Prints the pid in a pid file if that program runs; otherwise removes the file. A daemon that was killed
# leaves it, and dockerd takes any process of that pid, be it a zombie, for the daemon.
runs() { # pidfile program
    local pid
    [[ -f $1 ]] || return 1
    pid=$(<"$1")
    if [[ $(readlink "/proc/$pid/exe") == */$2 ]]; then
        echo "$pid"
    else
        rm -f "$1"
        return 1
    fi
}

start_engine() {
    local pid deadline=$((SECONDS + start_timeout))
    if pid=$(runs "$pidfile" dockerd); then
        say "dockerd is there (pid $pid) but does not answer yet"
    fi
    runs "$containerd_pidfile" containerd >/dev/null || true
    # Without an init system nothing has mounted the control groups.
    if ! grep -q ' /sys/fs/cgroup' /proc/mounts; then
        if command -v cgroupfs-mount >/dev/null; then
            cgroupfs-mount
        else
            mount -t cgroup2 cgroup2 /sys/fs/cgroup
        fi
    fi
    if [[ -z $pid ]]; then
        # The lock (9) must not stay held by the daemon.
        setsid dockerd --pidfile "$pidfile" >>"$log" 2>&1 </dev/null 9>&- &
        pid=$!
        say "started dockerd (pid $pid, log $log)"
    fi
    until answers; do
        if [[ ! -e /proc/$pid/exe ]]; then
            tail -n 15 "$log" >&2 || true
            die "dockerd ended before it answered; its last lines stand above, the rest in $log"
        fi
        ((SECONDS < deadline)) || die "dockerd does not answer after $start_timeout s; see $log"
        sleep 0.2
    done
}

ensure_engine() {
    if answers; then
        say "using the engine that answers (version $(docker version --format '{{.Server.Version}}'))"
        return
    fi
    if [[ -n ${DOCKER_HOST:-} && $DOCKER_HOST != unix://*"$socket" ]]; then
        die "DOCKER_HOST is $DOCKER_HOST and no engine answers there; start it, or unset DOCKER_HOST"
    fi
    require_debian_root "start an engine, or go on with LIFECYCLE_MAGIC_ENGINE=process"
    if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then install_engine; fi
    start_engine
    say "dockerd answers (version $(docker version --format '{{.Server.Version}}'))"
}

# ------------------------------------------------------------ the base image

python_minor() {
    local python=python3
    [[ -x .venv/bin/python ]] && python=.venv/bin/python
    "$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'
}

# The release whose own python3 is the given minor: its packages are what the stand-in is made of.
suite_of() {
    # shellcheck disable=SC1091
    case "$(. /etc/os-release && echo "$ID")-$1" in
        debian-3.9) echo bullseye ;;
        debian-3.11) echo bookworm ;;
        debian-3.13) echo trixie ;;
        debian-3.14) echo sid ;;
        ubuntu-3.10) echo jammy ;;
        ubuntu-3.12) echo noble ;;
        *) return 1 ;;
    esac
}

# The distribution's own archives as this host is set up to reach them, one "uri suite component" a line.
host_archives() {
    # shellcheck disable=SC1091
    local origin
    origin=$(. /etc/os-release && echo "${ID^}")
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' "Origin: $origin" | sort -u
}

# Certificates this host trusts and the image does not know: a company's own CA, typically.
add_host_certificates() {
    local root=$1
    [[ -r $host_ca ]] || return 0
    python3 - "$host_ca" "$root" <<'PYTHON'
import pathlib, re, sys

host, root = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
pem = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.S)
known = set(pem.findall((root / "etc/ssl/certs/ca-certificates.crt").read_text()))
extra = [text for text in dict.fromkeys(pem.findall(host.read_text())) if text not in known]
folder = root / "usr/local/share/ca-certificates"
folder.mkdir(parents=True, exist_ok=True)
for number, text in enumerate(extra):
    (folder / f"host-{number}.crt").write_text(text + "\n")
PYTHON
    chroot "$root" update-ca-certificates >/dev/null 2>&1
}

# What official slim images leave out, so that the stand-in stays slim when packages are added later.
slim_down() {
    local root=$1
    cat >"$root/etc/dpkg/dpkg.cfg.d/slim" <<'CONF'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
CONF
    find "$root/usr/share/doc" -type f ! -name copyright -delete
    rm -rf "$root"/usr/share/{man,info,locale}/* \
        "$root"/var/cache/{apt,debconf}/* "$root"/var/lib/apt/lists/* "$root"/var/log/*.log \
        "$root"/var/log/apt/* "$root"/debootstrap
    mkdir -p "$root/var/cache/apt/archives/partial" "$root/var/lib/apt/lists/partial"
}

# The archives of another release of this distribution lie beside the host's own: -updates, -security.
archives_of() { # suite mirror
    # shellcheck disable=SC1091
    local own
    own=$(. /etc/os-release && echo "$VERSION_CODENAME")
    if [[ $1 == sid ]]; then
        echo "$2 sid main" # has neither
    else
        host_archives | awk -v own="$own" -v suite="$1" '{ sub("^" own, suite, $2); print }'
    fi
}

configure_apt() { # root suite mirror
    local root=$1
    rm -f "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/*
    archives_of "$2" "$3" | awk '{ print "deb", $1, $2, $3 }' >"$root/etc/apt/sources.list"
    {
        echo 'APT::Keep-Downloaded-Packages "false";'
        echo 'Acquire::Languages "none";'
        echo 'Dir::Cache::pkgcache "";'
        echo 'Dir::Cache::srcpkgcache "";'
        # The way out (proxies) and how strictly archives are dated are facts of the host's network.
        apt-config dump | grep -E '^Acquire::(https?::|ftp::|Check-)' || true
    } >"$root/etc/apt/apt.conf.d/99host"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
}

configure_python() {
    local root=$1 minor=$2
    ln -sf python3 "$root/usr/bin/python"
    # The image is nobody's system: pip may write to it.
    rm -f "$root/usr/lib/python$minor/EXTERNALLY-MANAGED"
    printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$root/etc/pip.conf"
}

# In a subshell, whose end removes what it worked on.
stand_in() ( # tag minor
    local tag=$1 minor=$2 suite mirror found ca=/etc/ssl/certs/ca-certificates.crt
    command -v apt-get >/dev/null && [[ $(id -u) == 0 ]] ||
        die "$tag can't be pulled, and a stand-in needs root on Debian or Ubuntu; load that image into the engine"
    suite=$(suite_of "$minor") ||
        die "$tag can't be pulled, and no release of this distribution has Python $minor as its python3;" \
            "load that image into the engine, or make .venv anew with a python3 that has one" \
            "(Debian: 3.11, 3.13, 3.14; Ubuntu: 3.10, 3.12)"
    say "$tag can't be pulled; making a stand-in from $suite's packages (about a minute)"
    command -v debootstrap >/dev/null || apt_install debootstrap
    [[ -n $(host_archives) ]] || apt-get update -qq
    mirror=$(host_archives | awk -v s="$suite" '$2 == s && $3 == "main" { print $1; exit }')
    # Another release of the same distribution lies in the same archive.
    [[ -n $mirror ]] || mirror=$(host_archives | awk '$2 !~ /-/ && $3 == "main" { print $1; exit }')
    [[ -n $mirror ]] || die "no archive of this distribution in apt's sources: can't make $tag"

    work=$(mktemp -d "${TMPDIR:-/var/tmp}/lifecycle-magic-base.XXXXXX")
    trap 'rm -rf --one-file-system "$work"' EXIT
    local root=$work/root
    debootstrap --variant=minbase --include=python3,python3-pip,python3-venv,ca-certificates \
        "$suite" "$root" "$mirror" >"$work/log" 2>&1 ||
        {
            tail -n 15 "$work/log" "$root/debootstrap/debootstrap.log" >&2 || true
            die "debootstrap failed; its last lines stand above"
        }
    found=$(chroot "$root" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    [[ $found == "$minor" ]] || die "$suite has Python $found, not $minor: can't make $tag"
    add_host_certificates "$root"
    configure_apt "$root" "$suite" "$mirror"
    configure_python "$root" "$minor"
    slim_down "$root"
    tar -C "$root" --one-file-system --numeric-owner \
        --exclude='./proc/*' --exclude='./sys/*' --exclude='./dev/*' -c . |
        docker import \
            --change 'CMD ["python3"]' \
            --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
            --change 'ENV LANG=C.UTF-8' \
            --change "ENV PIP_CERT=$ca SSL_CERT_FILE=$ca REQUESTS_CA_BUNDLE=$ca" \
            --message "stand-in made from the packages of $suite" \
            - "$tag" >/dev/null
    say "made $tag ($(docker image inspect --format '{{.Size}}' "$tag" | awk '{ printf "%d MB", $1 / 1e6 }'))"
)

ensure_base_image() { # minor
    local minor=$1 tag=python:$1-slim
    if docker image inspect "$tag" >/dev/null 2>&1; then
        say "$tag is there"
    elif timeout "$pull_timeout" docker pull --quiet "$tag" >/dev/null 2>&1; then
        say "pulled $tag"
    else
        stand_in "$tag" "$minor"
    fi
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ $(id -u) == 0 ]]; then
    # Two at a time would install and start twice.
    exec 9>/run/lock/lifecycle-magic-engine.lock
    flock 9
fi
if [[ ${1:-} == packages ]]; then
    install_packages "${2:-$(python_minor)}"
    exit
fi
ensure_engine
(($#)) || set -- "$(python_minor)"
for minor; do ensure_base_image "$minor"; done
