#!/usr/bin/env bash
# Makes one of Brickwork's roles in etcd, and a user that has it. Safe to run again: it also takes away what a role has too much.
#
#   etcd-roles.sh [options] controller           the controllers
#   etcd-roles.sh [options] node NODE            one node: it can read and write its own keys and nobody else's
#   etcd-roles.sh [options] user                 people and programs that make wishes (brickctl)
#   etcd-roles.sh [options] operator             the same, fences, and nodes and backends to be forgotten
#   etcd-roles.sh [options] fence-agent          brickwork-fence-agent, and programs that fence nodes and do nothing else
#
#   --user NAME            the user; default: as the role, brickwork-node-NODE and so on. With client certificates etcd takes the
#                          certificate's common name as the user
#   --password-file FILE   the user logs in with this password; else with a certificate only
#   --prefix PREFIX        default: /brickwork/v1/
#
# etcdctl is taken from PATH, or from $ETCDCTL; where etcd is, and as whom to speak to it (root, once authentication is on), it
# takes from ETCDCTL_ENDPOINTS, ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY and ETCDCTL_USER. It gets 15 s for each answer, or
# ETCD_ROLES_ANSWER_S. Roles bind only after
# `etcdctl auth enable`: see docs/OPERATING.md, "TLS and roles".
set -euo pipefail
export ETCDCTL_API=3
answer_s=${ETCD_ROLES_ANSWER_S:-15}

usage() { sed -n '2,/^set -e/{/^set/d;s/^# \{0,1\}//;p}' "$0"; }

die() { echo "etcd-roles: $*" >&2; exit 2; }

# It asks for ever where there is a connection and no answer, whatever its own time limits are.
etcdctl() {
    local status=0
    timeout --kill-after=1 "$answer_s" "${ETCDCTL:-etcdctl}" "$@" || status=$?
    [ "$status" != 124 ] && [ "$status" != 137 ] || echo "etcd-roles: no answer within $answer_s s from ${ETCDCTL_ENDPOINTS:-127.0.0.1:2379}" >&2
    return "$status"
}

# What each role may do, one permission a line: read or readwrite, prefix or key, and the key below the prefix. A family is
# written by one role alone (docs/PROTOCOL.md); connections/ and records/ hold secrets, so that no user may read them.
permissions() {
    case $1 in
        controller)
            echo "read prefix "
            for family in fenced backends storage volumes grants connections records leaders verdicts; do
                echo "readwrite prefix $family/"
            done ;;
        node)
            for family in desired/attachments connections fences; do echo "read prefix $family/$2/"; done
            echo "read key desired/nodes/$2"
            for family in claims attachments; do echo "readwrite prefix $family/$2/"; done
            for family in nodes alive; do echo "readwrite key $family/$2"; done ;;
        user | operator)
            echo "readwrite prefix desired/"
            for family in alive claims attachments volumes grants verdicts fenced leaders; do
                echo "read prefix $family/"
            done
            if [ "$1" = operator ]; then
                for family in fences nodes backends storage; do echo "readwrite prefix $family/"; done
            else
                for family in fences nodes backends storage; do echo "read prefix $family/"; done
            fi ;;
        fence-agent)
            echo "readwrite prefix fences/"
            for family in nodes alive volumes desired/attachments leaders; do echo "read prefix $family/"; done
            echo "readwrite key leaders/_fence"
            echo "readwrite key leaders/_fence/resigned" ;;
    esac
}

# What the role has now, as `prefix KEY`, `key KEY`, or `range KEY END`.
present() {
    etcdctl role get "$1" | sed -n \
        -e 's/^\t\[.*(prefix \(.*\))$/prefix \1/p' -e t \
        -e 's/^\t\[\(.*\), \(.*\))$/range \1 \2/p' -e t \
        -e 's/^\t\[\(.*\), <open ended>.*$/from \1/p' -e t \
        -e 's/^\t\(.*\)$/key \1/p' | sort -u
}

grant() {
    permissions "$kind" "$node" | while read -r access form key; do
        if [ "$form" = prefix ]; then set -- --prefix; else set --; fi
        etcdctl role grant-permission "$@" "$role" "$access" "$prefix$key" >/dev/null
        echo "$form $prefix$key"
    done | sort
}

# Also what a later version of this script or a person gave, by mistake or long ago.
revoke_all_but() {
    present "$role" | while read -r form key end; do
        grep -Fqx "$form $key${end:+ $end}" <<<"$1" && continue
        echo "etcd-roles: $role: taking away $form $key${end:+ to $end}" >&2
        case $form in
            prefix) etcdctl role revoke-permission --prefix "$role" "$key" >/dev/null ;;
            from) etcdctl role revoke-permission --from-key "$role" "$key" >/dev/null ;;
            *) etcdctl role revoke-permission "$role" "$key" ${end:+"$end"} >/dev/null ;;
        esac
    done
}

make_user() {
    if [ -n "$password_file" ]; then
        if has user "$user"; then verb=passwd; else verb=add; fi
        etcdctl user "$verb" --interactive=false "$user" <"$password_file" >/dev/null
    elif ! has user "$user"; then
        etcdctl user add --no-password "$user" >/dev/null
    fi
    etcdctl user grant-role "$user" "$role" >/dev/null
}

has() {
    local all
    all=$(etcdctl "$1" list) || exit 1 # not the same as "there is none"
    grep -Fqx "$2" <<<"$all"
}

prefix=/brickwork/v1/ user='' password_file='' kind='' node=''
while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --user | --password-file)
            [ $# -ge 2 ] || die "$1 needs a value"
            case $1 in --prefix) prefix=$2 ;; --user) user=$2 ;; --password-file) password_file=$2 ;; esac
            shift ;;
        -h | --help) usage; exit 0 ;;
        -*) die "no such option: $1 (--help tells all)" ;;
        *) if [ -z "$kind" ]; then kind=$1; elif [ -z "$node" ]; then node=$1; else die "what is $1?"; fi ;;
    esac
    shift
done

role=brickwork-$kind
case $kind in
    node)
        grep -Eqx '[A-Za-z0-9][A-Za-z0-9._-]{0,252}' <<<"$node" || die "node '$node' is no node's id"
        role=brickwork-node-$node ;;
    controller | user | operator | fence-agent) [ -z "$node" ] || die "what is $node?" ;;
    *) usage >&2; exit 2 ;;
esac
case $prefix in /*/ | /) ;; *) die "prefix '$prefix': begin and end it with a slash" ;; esac
user=${user:-$role}
[ -z "$password_file" ] || [ -r "$password_file" ] || die "$password_file can't be read"

has role "$role" || etcdctl role add "$role" >/dev/null
granted=$(grant)
revoke_all_but "$granted"
make_user
echo "$role: user $user"
