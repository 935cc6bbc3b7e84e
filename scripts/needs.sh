# What building needs beside Rust: sourced by ./dev, ./test and .ci/run.
#
# `need_everything` finds cargo, lists what the build lacks, says what it is about to install, and installs it with
# apt-get. When nothing is missing it only looks, which takes a few milliseconds.

# One line per argument.
say() { printf '%s\n' "$@" >&2; }

die() {
  say "$@"
  exit 1
}

# Cargo, also where rustup put it and the shell has not been told.
need_cargo() {
  command -v cargo >/dev/null && return
  local bin="${CARGO_HOME:-$HOME/.cargo}/bin"
  [ -x "$bin/cargo" ] || die \
    "Rust is missing. Install it as https://rustup.rs says:" \
    "" \
    "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y" \
    "" \
    "and run this again."
  PATH="$bin:$PATH"
}

has_openssl_headers() {
  # Where openssl-sys is told to look, it looks nowhere else.
  [ -n "${OPENSSL_DIR:-}${OPENSSL_INCLUDE_DIR:-}" ] && return
  if command -v pkg-config >/dev/null; then
    pkg-config --exists openssl
  else
    [ -e /usr/include/openssl/ssl.h ]
  fi
}

# Set by need_redis: the tests start servers of their own.
wants_redis=

# Debian's names of the packages that would bring what is missing.
missing_packages() {
  # Compiler and make: OpenSSL's bindings, aws-lc, mimalloc and zlib-ng are C. zlib-ng is configured by cmake,
  # which also wants to see a C++ compiler.
  if ! { command -v cc && command -v c++ && command -v make; } >/dev/null; then
    echo build-essential
  fi
  command -v cmake >/dev/null || echo cmake
  command -v pkg-config >/dev/null || echo pkg-config
  has_openssl_headers || echo libssl-dev
  if [ -n "$wants_redis" ]; then
    command -v redis-server >/dev/null || echo redis-server
    command -v redis-sentinel >/dev/null || echo redis-sentinel
  fi
  if [ -n "$wants_clients" ]; then
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    command -v node >/dev/null || echo nodejs
    command -v npm >/dev/null || echo npm
    command -v chromium >/dev/null || echo chromium
  fi
}

# To be called before need_everything: tests need Redis 7, the edge does not.
need_redis() {
  wants_redis=yes
}

# Set by need_clients: the end-to-end tests use other people's clients.
wants_clients=

# To be called before need_everything: they are Python's, Node's, and a browser.
need_clients() {
  wants_clients=yes
}

need_packages() {
  local packages as_root=()
  mapfile -t packages < <(missing_packages)
  [ "${#packages[@]}" -eq 0 ] && return

  if ! command -v apt-get >/dev/null; then
    die "The build lacks ${packages[*]} (Debian's names), and there is no apt-get here to install them." \
      "It needs a C and C++ compiler, make, cmake, pkg-config and OpenSSL's headers, and its tests Redis; on Fedora, for example:" \
      "" \
      "    dnf install gcc gcc-c++ make cmake pkgconf-pkg-config openssl-devel redis"
  fi
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die \
      "The build lacks: ${packages[*]}. As root, run:" \
      "" \
      "    apt-get update && apt-get install --yes ${packages[*]}"
    as_root=(sudo)
  fi

  say "The build lacks: ${packages[*]}. Installing with ${as_root[*]:+sudo }apt-get ..."
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 --quiet --quiet)
  # A stale or empty package list is the usual reason for a package not being found; a repository that cannot be
  # reached need not be one of ours, so a failing update alone is no reason to stop.
  "${apt[@]}" update >&2 || say "apt-get update failed; trying with the package lists that are here."
  "${apt[@]}" install --yes --no-install-recommends "${packages[@]}" >&2 ||
    die "apt-get could not install: ${packages[*]}. Its messages are above."

  mapfile -t packages < <(missing_packages)
  [ "${#packages[@]}" -eq 0 ] || die "Still missing after installing: ${packages[*]}."
}

need_everything() {
  need_cargo
  need_packages
}
