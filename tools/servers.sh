#!/bin/sh
# The real servers and foreign clients that tests meet, from Debian: `tools/servers.sh test`, `bench` or `cluster`
# (what `mainstay cluster demo` runs).
#
# As root it installs what is missing with apt-get (services are not started); otherwise it names what is
# missing, and the tests that need it are skipped and listed at the end of the run.
set -eu
cd "$(dirname "$0")/.."
kind=${1:-test}

say() { printf '%s\n' "$*" >&2; }

have() {
    PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 ||
        ls /usr/lib/postgresql/*/bin/"$1" /usr/lib/nginx/modules/"$1" 2>/dev/null | grep -q .
}

# program:package:what is tested with it
wanted="postgres:postgresql:PostgreSQL as the database
pgbouncer:pgbouncer:a pooler in front of PostgreSQL
etcd:etcd-server:who decides which PostgreSQL is the primary
patroni:patroni:PostgreSQL that fails over by itself
redis-server:redis-server:Redis as soft state
haproxy:haproxy:HAProxy as the balancer
ip:iproute2:hosts with cables that can be pulled
iptables:iptables:partitions between hosts
mkfs.ext4:e2fsprogs:disks that lose power
nginx:nginx-light:nginx as the balancer
ngx_stream_module.so:libnginx-mod-stream:SSH and unread TLS through nginx
ssh:openssh-client:Git over SSH
sshd:openssh-server:OpenSSH in front of Mainstay
strace:strace:kills at every system call
curl:curl:plain HTTP clients
git-lfs:git-lfs:LFS clients
systemd-analyze:systemd:the units in deploy/
promtool:prometheus:the alerts in deploy/
named:bind9:DNS that a promotion changes
keepalived:keepalived:an address that follows a promotion"
[ "$kind" != bench ] || wanted="postgres:postgresql:PostgreSQL as the database
ssh:openssh-client:Git over SSH
sshd:openssh-server:the SSH peer
nginx:nginx-light:the HTTP peer
fcgiwrap:fcgiwrap:the HTTP peer
wrk:wrk:requests per second"
[ "$kind" != cluster ] || wanted="postgres:postgresql:PostgreSQL
etcd:etcd-server:who decides which PostgreSQL is the primary
patroni:patroni:PostgreSQL that fails over by itself
redis-server:redis-server:Redis
haproxy:haproxy:HAProxy"

missing() { # what: packages, or sentences
    printf '%s\n' "$wanted" | while IFS=: read -r program package purpose; do
        have "$program" && continue
        if [ "$1" = packages ]; then printf '%s ' "$package"; else say "  $program ($package): $purpose"; fi
    done
}

install_without_starting() {
    # Debian starts a service when its package is installed, unless this policy forbids it.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get install --yes --quiet --no-install-recommends "$@" >&2 ||
        { apt-get update --quiet >&2 && apt-get install --yes --quiet --no-install-recommends "$@" >&2; }
}

packages=$(missing packages)
if [ -n "$packages" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "servers: installing with apt-get: $packages"
        # shellcheck disable=SC2086 # a list of words on purpose
        install_without_starting $packages || say "servers: apt-get failed"
    fi
    if [ -n "$(missing packages)" ]; then
        if [ "$kind" = cluster ]; then say "servers: not here (root on Debian installs them):"
        else say "servers: not here, so what needs them is skipped (root on Debian installs them):"; fi
        missing sentences
    fi
fi
[ "$kind" = bench ] || tools/rgw.sh fetch || say "servers: no Ceph RGW here, so there is no real S3 with signatures"
[ "$kind" != cluster ] || [ -z "$(missing packages)" ]
