#!/bin/sh
# Makes sure that a RabbitMQ server is installed (unless RABBITMQ_URL names one), and Python's venv module; with
# FOR_TESTS=1 also PostgreSQL's server programs, PgBouncer, HAProxy, Redis, Chromium, libfaketime and Kustomize, without
# which some tests are skipped. PYTHON names the interpreter.
# Installs them with apt-get where it may; else says what to do, with status 1 if it can't be done without.
# Order Rail runs a private node of its own, so the package's system-wide service is neither started nor enabled.
set -eu
python=${PYTHON:-python3}

has_rabbitmq() {
  [ -n "${RABBITMQ_URL:-}" ] && return 0
  for folder in $(echo "$PATH" | tr ':' ' ') /usr/sbin /usr/lib/rabbitmq/bin /usr/local/sbin \
    /opt/homebrew/sbin /opt/homebrew/opt/rabbitmq/sbin /usr/local/opt/rabbitmq/sbin /home/linuxbrew/.linuxbrew/sbin; do
    [ -x "$folder/rabbitmq-server" ] && return 0
  done
  return 1
}

has_venv() { # Debian ships venv without the pip that it puts into a new environment
  "$python" -c 'import ensurepip, venv' 2>/dev/null
}

has_postgresql() {
  command -v initdb >/dev/null && return 0
  for program in /usr/lib/postgresql/*/bin/initdb "$(pg_config --bindir 2>/dev/null || true)/initdb"; do
    [ -x "$program" ] && return 0
  done
  return 1
}

has_chromium() {
  command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null
}

has_pgbouncer() {
  command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ]
}

has_haproxy() {
  command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ]
}

has_redis() {
  command -v redis-server >/dev/null
}

has_libfaketime() {
  [ -n "$(find /usr/lib -name 'libfaketimeMT.so.1' 2>/dev/null | head -n 1)" ]
}

has_kustomize() {
  command -v kustomize >/dev/null || command -v kubectl >/dev/null
}

required_packages() {
  has_venv || "$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
  has_rabbitmq || echo rabbitmq-server
}

missing_packages() {
  required_packages
  [ -n "${FOR_TESTS:-}" ] || return 0
  has_postgresql || echo postgresql
  has_pgbouncer || echo pgbouncer
  has_haproxy || echo haproxy
  has_redis || echo redis-server
  has_chromium || echo chromium
  has_libfaketime || echo libfaketime
  has_kustomize || ! apt-cache show kustomize >/dev/null 2>&1 || echo kustomize # Debian has it since 13
}

explain() {
  if [ -z "$(required_packages)" ]; then
    echo "Not installed: $(missing_packages | tr '\n' ' '). The tests that need it will be skipped." >&2
    exit 0
  fi
  cat >&2 <<MESSAGE
Order Rail could not install what it needs: $(missing_packages | tr '\n' ' ')
Do one of these, then run the command again:

  Debian, Ubuntu       sudo apt-get install $(missing_packages | tr '\n' ' ')
  Fedora               sudo dnf install rabbitmq-server
  macOS                brew install rabbitmq
  a broker of yours    export RABBITMQ_URL=amqp://user:password@host:5672/vhost
                       export RABBITMQ_MANAGEMENT_URL=http://user:password@host:15672
  containers           docker compose up --build
MESSAGE
  exit 1
}

without_starting_services() { # Debian's package scripts ask this file before they start a service
  policy=/usr/sbin/policy-rc.d
  [ -e $policy ] && { "$@"; return; }
  trap 'rm -f $policy' EXIT
  trap 'exit 1' INT TERM HUP
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod 755 $policy
  "$@"
}

install() {
  export DEBIAN_FRONTEND=noninteractive
  if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    mkdir -p /etc/postgresql-common # the tests run servers of their own: the package need not make one
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
  fi
  apt-get update -qq -o DPkg::Lock::Timeout=300 || echo "apt-get update failed; going on with the lists at hand" >&2
  # shellcheck disable=SC2046 # one word for each package
  apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 $(missing_packages) >/dev/null
}

disable_services() { # $1: was there an Erlang before? Then its epmd is somebody's, and stays.
  [ -d /run/systemd/system ] || return 0
  systemctl --quiet disable --now rabbitmq-server.service >/dev/null 2>&1 || true
  [ "$1" = yes ] || systemctl --quiet disable --now epmd.socket epmd.service >/dev/null 2>&1 || true
}

as_root() {
  exec 9>/run/lock/order-rail-install
  flock 9 # two clones may be set up at once
  missing=$(missing_packages)
  [ -n "$missing" ] || exit 0
  erlang=no
  command -v epmd >/dev/null && erlang=yes
  without_starting_services install || explain
  case $missing in *rabbitmq-server*) disable_services $erlang ;; esac
  case $missing in *haproxy*) [ ! -d /run/systemd/system ] || systemctl --quiet disable haproxy.service ;; esac
  case $missing in *redis*) [ ! -d /run/systemd/system ] || systemctl --quiet disable redis-server.service ;; esac
  [ -z "$(missing_packages)" ] || explain
}

if [ "${1:-}" = --as-root ]; then
  as_root
  exit
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
  echo "Order Rail needs Python 3.11 or newer; '$python' is not. Install it, or name it: make PYTHON=python3.11 ..." >&2
  exit 1
}
[ -n "$(missing_packages)" ] || exit 0
command -v apt-get >/dev/null || explain
[ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null || explain
echo "Installing with apt-get: $(missing_packages | tr '\n' ' ')..."
if [ "$(id -u)" = 0 ]; then
  as_root
else
  sudo -n env PYTHON="$python" RABBITMQ_URL="${RABBITMQ_URL:-}" FOR_TESTS="${FOR_TESTS:-}" sh "$0" --as-root
fi
