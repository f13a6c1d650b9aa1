#!/bin/sh
# Prepares a fresh Debian 12 machine for the end-to-end tests. Needs root. Safe to run again: it does only what is missing.
#
#   tests/e2e/prepare.sh           make everything ready
#   tests/e2e/prepare.sh --check   exit 0 when everything is ready, 1 (and say what is missing) when not
#
# What it makes, all but the host packages in the state folder (BRICKWORK_STATE, else .state in the checkout):
#   e2e/root   the guests' root tree. Storage tools go in here and never onto the host, where open-iscsi would start
#              iscsid, and multipathd might grab real disks
#   e2e/etcd   the etcd binaries, unpacked and not installed, so that no service starts
#   e2e/wide-registers.so   only on processors with AMX, see host/wide-registers.c
#   e2e/debs   downloaded packages, so that a changed list does not download everything again
set -eu

checkout=$(cd "$(dirname "$0")/../.." && pwd)
state=${BRICKWORK_STATE:-$checkout/.state}/e2e
suite=bookworm

has_amx() { grep -qw amx_tile /proc/cpuinfo; }

host_packages="user-mode-linux iproute2 debootstrap"
if has_amx; then host_packages="$host_packages gcc libc6-dev"; fi
etcd_packages="etcd-server etcd-client"
# python3: the checkout's virtual environment uses the distribution's interpreter, also inside the guests.
# lsscsi, sg3-utils, qemu-utils: os-brick and Cinder call them. busybox-static: poweroff without an init system.
# systemd-sysv, dbus: for the one guest that boots systemd; the others do not start it.
guest_packages="python3 udev kmod lvm2 thin-provisioning-tools open-iscsi multipath-tools sg3-utils lsscsi iproute2
    iputils-ping procps psmisc e2fsprogs cryptsetup-bin qemu-utils sudo busybox-static nfs-kernel-server nfs-common
    systemd-sysv dbus"

wanted_stamp=$(echo "$suite $(dpkg --print-architecture)" $guest_packages | sha256sum | cut -d' ' -f1)

say() { echo "prepare: $*"; }

# Both become words of a kernel's command line and mount options.
case $checkout$state in *[[:space:],]*)
    say "no blank and no comma may be in the paths $checkout and $state"
    exit 1
    ;;
esac

host_packages_missing() {
    for package in $host_packages; do
        dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -qx 'install ok installed' || echo "$package"
    done
}

root_is_current() { [ "$(cat "$state/root.stamp" 2>/dev/null)" = "$wanted_stamp" ] && [ -d "$state/root" ]; }
# By content: git gives files new times.
registers_are_current() {
    ! has_amx || { [ -e "$state/wide-registers.so" ] && cmp -s "$checkout/tests/e2e/host/wide-registers.c" "$state/wide-registers.c"; }
}
etcd_is_there() { [ -x "$state/etcd/usr/bin/etcd" ] && [ -x "$state/etcd/usr/bin/etcdctl" ]; }

# The mirror is the one that this machine's apt uses: ask apt, which knows all the forms that its sources may have.
configured_mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' "Codename: $suite" \
        'Component: main' | head -n 1
}

# debootstrap downloads with wget, which does not read apt's settings.
carry_over_apt_settings() {
    http=; https=; authorities=; verify=
    eval "$(apt-config shell http Acquire::http::Proxy https Acquire::https::Proxy \
        authorities Acquire::https::CaInfo verify Acquire::https::Verify-Peer/b)"
    if [ -n "$http" ] && [ "$http" != DIRECT ]; then export http_proxy="$http"; fi
    if [ -n "$https" ] && [ "$https" != DIRECT ]; then export https_proxy="$https"; fi
    WGETRC=$state/wgetrc
    export WGETRC
    { [ -z "$authorities" ] || echo "ca_certificate = $authorities"
      [ "$verify" != false ] || echo "check_certificate = off"; } >"$WGETRC"
}

build_root() {
    mirror=$(configured_mirror)
    [ -n "$mirror" ] || { say "apt knows no source of Debian $suite main"; exit 1; }
    carry_over_apt_settings
    rm -rf "$state/root.new" "$state/root.stamp"
    mkdir -p "$state/root.new" "$state/debs"
    say "building the guests' root tree (a few minutes)"
    debootstrap --variant=minbase --cache-dir="$state/debs" --include="$(echo $guest_packages | tr -s ' \n' ,)" \
        "$suite" "$state/root.new" "$mirror" >"$state/debootstrap.log" 2>&1 || {
        tail -n 20 "$state/debootstrap.log" "$state/root.new/debootstrap/debootstrap.log" || true
        say "debootstrap failed"
        exit 1
    }
    rm -rf "$state/root.new"/var/cache/apt/archives/*.deb "$state/root.new"/var/lib/apt/lists/*
    # Every guest makes its own identity at boot; what packages wrote while being unpacked would be shared by all.
    rm -f "$state/root.new"/etc/iscsi/initiatorname.iscsi "$state/root.new"/etc/machine-id \
        "$state/root.new"/etc/hostname
    # Mount points of the first boot stage, which sees this tree read-only.
    mkdir -p "$state/root.new"/lib/modules "$state/root.new"/e2e
    rm -rf "$state/root"
    mv "$state/root.new" "$state/root"
    echo "$wanted_stamp" >"$state/root.stamp"
}

unpack_etcd() {
    say "unpacking etcd"
    rm -rf "$state/etcd" "$state/etcd.new"
    mkdir -p "$state/debs" "$state/etcd.new"
    # The sandbox user of apt may not be able to enter the state folder.
    (cd "$state/debs" && rm -f etcd-*.deb && apt-get -q -o APT::Sandbox::User=root download $etcd_packages)
    for package in $etcd_packages; do
        dpkg-deb -x "$state"/debs/"$package"_*.deb "$state/etcd.new"
    done
    mv "$state/etcd.new" "$state/etcd"
}

compile_registers() {
    gcc -O2 -Wall -Wextra -Werror -shared -fPIC -o "$state/wide-registers.new" "$checkout/tests/e2e/host/wide-registers.c"
    mv "$state/wide-registers.new" "$state/wide-registers.so"
    cp "$checkout/tests/e2e/host/wide-registers.c" "$state/wide-registers.c"
}

missing=
[ -z "$(host_packages_missing)" ] || missing="$missing host packages ($(host_packages_missing | xargs));"
root_is_current || missing="$missing the guests' root tree;"
etcd_is_there || missing="$missing etcd;"
registers_are_current || missing="$missing what this processor's registers need;"
if [ -z "$missing" ]; then
    say "ready: $state"
    exit 0
fi
if [ "${1:-}" = --check ]; then
    say "missing:$missing run tests/e2e/prepare.sh as root"
    exit 1
fi

[ "$(id -u)" = 0 ] || { say "needs root"; exit 1; }
mkdir -p "$state"
exec 9>"$state/prepare.lock"
flock 9 # Two runs at once would build into the same folder.

apt-get -q update
if [ -n "$(host_packages_missing)" ]; then
    say "installing on the host: $(host_packages_missing | xargs)"
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends \
        $(host_packages_missing)
fi
root_is_current || build_root
etcd_is_there || unpack_etcd
registers_are_current || compile_registers
say "ready: $state"
