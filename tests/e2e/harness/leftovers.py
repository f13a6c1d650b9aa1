"""What an attachment leaves on a node when it is not taken down completely."""

from harness.guest import Guest

SCRIPT = r"""
for session in /sys/class/iscsi_session/*; do [ ! -e "$session" ] || echo "iSCSI session $(cat $session/targetname)"; done
for disk in /sys/block/sd*; do [ ! -e "$disk" ] || echo "disk ${disk##*/}"; done
dmsetup ls 2>/dev/null | grep -v '^No devices' | sed 's/^/dm map /'
multipathd show paths raw format '%d' 2>/dev/null | grep -vx ok | sed 's/^/multipath path /'
for record in /etc/iscsi/nodes/*; do [ ! -e "$record" ] || echo "initiator record ${record##*/}"; done
for link in /dev/disk/*/* /dev/mapper/* /dev/brickwork/*; do
    [ ! -L "$link" ] || case $(readlink $link) in */ubd*|*/loop*) ;; *) echo "link $link";; esac
done
grep -E ' nfs4? ' /proc/mounts | sed 's/^/NFS mount /'
losetup --noheadings --list --output NAME,BACK-FILE | sed 's/^/loop device /'
true
"""


def leftovers(node: Guest) -> list[str]:
    """List every session, device, map, path, initiator record, link and mount on a node; a clean one has none."""
    return node.run(SCRIPT).stdout.splitlines()
