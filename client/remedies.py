"""What to do about a reason: the commands that would unblock, exactly as they are to be run. For `explain`.

Nothing here forces anything. Where only a proof helps (a host that is off for certain), the statement to be made is printed;
whoever makes it answers for it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """What the commands are about."""

    prefix: str
    node: str = ""
    volume: str = ""
    backend: str = ""
    boot: str = ""
    other: str = ""
    """Who holds the volume instead."""
    size_gib: str = ""


_LOOK = "look at it: ssh {node} systemctl status brickwork-node"
_SLOW = ("if it stays so, see what keeps {node} from it: ssh {node} curl -s localhost:9753/readyz",)
_FENCE = "  brickctl fence {node} --boot {boot} --why 'host is dead' --evidence 'HOW YOU KNOW'"
_NOT_ON_SILENCE = "never state it on silence alone: a host that is merely cut off still writes, and data would be lost"
_NODE_AWAY = (
    _LOOK,
    "if you know that the host can't write any more, state that, once, with your name to it:",
    _FENCE,
    _NOT_ON_SILENCE,
)
_POWERED_OFF = (
    "this array can't cut a host's access: power {node} off, or reset it; then state that, once, with your name to it:",
    f"{_FENCE} --powered-off",
    _NOT_ON_SILENCE,
)
_IN_USE = (
    "end what the message names, on {node}: unmount it, stop the process, remove the mapping",
    "find it: ssh {node} 'lsblk /dev/brickwork/{volume}; fuser -vm /dev/brickwork/{volume}'",
)
_EVERY_TRY = "it is tried again by itself; the controller's log has every try: journalctl -u brickwork-controller"
_BACKEND_AWAY = ("look at it: brickctl describe backend {backend}", _EVERY_TRY)
_CALL_FAILED = (
    "is all well with {volume} on the array, and with the backend? brickctl describe backend {backend}",
    _EVERY_TRY,
)
_WHICH_BACKEND = ("is the name right? brickctl get backends; backends are defined in the controller's settings",)
_BY_HAND = (
    "a key was damaged or deleted by hand; nothing is undone on doubt",
    "see the keys: etcdctl get --prefix --keys-only {prefix} | grep -w {volume}",
    "restore the key named above from a backup of etcd, or ask whoever changed it",
)
_REBOOTED = (
    "nothing, when brickwork-node runs there: it cleans up by itself",
    "otherwise start it: ssh {node} systemctl start brickwork-node",
)

REMEDIES: dict[str, tuple[str, ...]] = {
    # the node
    "DeviceBusy": (*_IN_USE, "to keep it attached instead, take the wish up again: brickctl attach {node} {volume}"),
    "DeviceBusyDrained": (
        *_IN_USE,
        "to keep it attached instead, take the drain back: brickctl undrain {node} --label LABEL",
    ),
    "NodeSilent": _NODE_AWAY,
    "NodeSilentUncut": (_LOOK, *_POWERED_OFF),
    "FenceTooWeak": _POWERED_OFF,
    "NodeUnknown": (
        "install and start the daemon there: ssh {node} systemctl enable --now brickwork-node",
        "is the name right? brickctl get nodes",
    ),
    "NodeFenced": (
        "start {node}: its daemon drops what the fenced boot left, and begins a new boot by itself",
        "see the statement: brickctl describe node {node}",
    ),
    "OldBoot": _REBOOTED,
    "ConnectFailed": (
        "the message names the fault on {node}; it is tried again by itself",
        "see every try: ssh {node} journalctl -u brickwork-node",
    ),
    "ResizeFailed": (
        "the device works on with its old size; the message names the fault on {node}, and it is tried again by itself",
        "all paths have to be up: ssh {node} multipath -ll",
    ),
    "DisconnectFailed": (
        "the message names the fault on {node}; it is tried again by itself, and nothing is forced",
        "see every try: ssh {node} journalctl -u brickwork-node",
    ),
    "IdentityMismatch": (
        "do not use the device: another one answered where {volume} was expected. It is kept for inspection",
        "look at it on {node}: lsblk -o NAME,SIZE,WWN,SERIAL; multipath -ll",
        "once the stale device or mapping is gone, it is tried again by itself",
    ),
    "LinkTaken": (
        "the device is the right one; only its link can't be made. Remove on {node} what the message names",
        "it is tried again by itself, and it can be detached meanwhile",
    ),
    "NoteUnreadable": (
        "the note on {node} says how to disconnect {volume}. Restore the file that the message names",
        "or see on {node} that no device of {volume} is left, and remove the file: lsblk; iscsiadm -m session",
        "only {volume} waits for that; it goes on by itself",
    ),
    "Starting": (
        "nothing: brickwork-node on {node} looks at its host first, then publishes its boot",
        "if that lasts: ssh {node} journalctl -u brickwork-node",
    ),
    "DuplicateIdentity": (
        "the message names the other volume; nothing of that one was touched, and {volume} is not on {node}",
        "give the volumes serial numbers (WWIDs) of their own at the storage: two targets that count alike, or a cloned array",
        "then: brickctl detach {node} {volume}, and attach it again; or keep the two volumes on different nodes",
    ),
    "PathsMissing": (
        "reads and writes go on over the paths that are left; a path that comes back is taken up again by itself",
        "see which are missing: ssh {node} 'multipath -ll; iscsiadm -m session -P 1'",
    ),
    "NoPathLive": (
        "put the network or the array right soon: reads and writes wait as long as no_path_retry of multipathd on {node} says",
        "a path that comes back is taken up by itself; what had failed by then is for its user to repair (fsck, databases)",
        "see why on {node}: multipath -ll; iscsiadm -m session -P 1; ping the portals of backend {backend}",
    ),
    "TooFewPaths": (
        "it waits as designed, and takes up by itself whatever portal answers again; the device is there meanwhile",
        "see which are missing: ssh {node} 'multipath -ll; iscsiadm -m session -P 1'",
        "to be content with fewer: brickctl attach {node} {volume} --min-paths 1",
    ),
    "TooFewPathsEver": (
        "to be content with what there is: brickctl attach {node} {volume} --min-paths 1",
        "more come only where the array has more portals, and multipath is set on {node}: then detach it, and attach it again",
    ),
    "DuplicateInitiator": (
        "give {node} an identifier of its own (a cloned host keeps the original's), then restart its daemon:",
        "  iSCSI: echo InitiatorName=$(iscsi-iname) > /etc/iscsi/initiatorname.iscsi; systemctl restart iscsid brickwork-node",
        "  NVMe: nvme gen-hostnqn > /etc/nvme/hostnqn; uuidgen > /etc/nvme/hostid; systemctl restart brickwork-node",
        "or was the other one retired? Forget it: brickctl delete node ITS-NAME",
    ),
    "DuplicateNode": (
        "a clone of {node}, most likely, or another host whose settings say node: {node}. It does nothing, and {node} works on",
        "on that other host: systemctl stop brickwork-node; rm -r /var/lib/brickwork/node; put the settings right; start it again",
        "if it is to take the place of {node}: there, brickwork-node --this-host-is {node}; then do what its log says",
    ),
    "OtherHost": (
        "start the host that was {node} before, with its own disk: it gives the volume back as soon as it is {node} again",
        "or, if it is off for good: brickctl fence {node} --boot {boot} --why replaced --evidence 'HOW YOU KNOW' --powered-off "
        "--although-alive (alive is the host that took its place)",
    ),
    "FenceWithdrawn": (
        "a fence that was acted upon can't be taken back. State it again (the message names the boot), and {node} cleans up:",
        "  brickctl fence {node} --boot BOOT --why 'it was acted upon' --evidence 'its volumes were taken back' --although-alive",
        "or reboot {node}: that begins a new boot as well",
    ),
    "FormerHost": (
        "switch the former host off, then say so: brickctl fence {node} --boot BOOT --why replaced --evidence 'HOW YOU KNOW' "
        "--powered-off --although-alive (the message names the boot; alive is the host that took its place)",
    ),
    "Cordoned": (
        "see the cordons: brickctl describe node {node}",
        "take each back once its reason is gone: brickctl uncordon {node} --label LABEL",
    ),
    "Drained": (
        "it waits as designed: what is wished for on {node} is attached again when the last drain is taken back",
        "see the drains: brickctl describe node {node}",
        "take each back once its reason is gone: brickctl undrain {node} --label LABEL",
    ),
    **dict.fromkeys(("WaitingForNode", "Connecting", "Disconnecting", "Releasing"), _SLOW),
    # the volume
    "HeldBy": (
        "it waits as designed: one node at a time",
        "to move the volume here: brickctl detach {other} {volume}",
    ),
    "HeldByLeaving": (
        "it waits as designed: {other} is to detach {volume} first",
        "see what that waits for: brickctl explain {other} {volume}",
    ),
    "VolumeNotFound": (
        "is the name right? brickctl get volumes",
        "else wish for it: brickctl apply -f - with kind: Volume, name: {volume}, spec: {{backend: …, size_gib: …}}",
    ),
    "VolumeNotWanted": ("wish for the volume again: brickctl apply -f the manifest of {volume}",),
    "VolumeRefused": (
        "correct the wish for the volume as the message says: brickctl explain {volume}",
        "or name another volume in the attachment",
    ),
    "VolumeNotReady": ("see what it waits for: brickctl explain {volume}",),
    "NameTaken": (
        "a retained volume has this name: match its backend and size (brickctl describe volume {volume}), or take another name",
    ),
    "BackendDiffers": ("put the former backend back into the spec; volumes do not move between backends",),
    "SizeSmaller": ("put a size_gib into the spec that is not below the present size; volumes do not shrink",),
    "ModeDiffers": ("brickctl detach {node} {volume}, wait until it is detached, and attach it again",),
    "Malformed": (
        "the message has the path of the fault; put a right value: brickctl apply -f, or brickctl attach {node} {volume}",
    ),
    "NewerSchema": (
        "nothing is wrong with the key: a newer Brickwork wrote it. Upgrade the daemons here, and this brickctl, to that version",
        "do not overwrite it: what it says would be lost",
    ),
    "MalformedVolume": ("the message has the path of the fault; put a right value: brickctl apply -f",),
    "Refused": ("the driver refused for good; correct the spec as the message says, and apply it again",),
    "ImportUnsupported": ("create the volume instead, or import it through a backend whose driver can",),
    "ExtendUnsupported": ("put the former size_gib back into the spec",),
    "ExtendRefused": ("correct size_gib as the message says, and apply it again",),
    "ExtendWaitsForDetach": ("brickctl detach {other} {volume}; it grows then, and may be attached again",),
    # the backend
    "BackendNotReady": _BACKEND_AWAY,
    "BackendUnknown": _WHICH_BACKEND,
    "UnknownBackend": _WHICH_BACKEND,
    "UnknownOutcome": _CALL_FAILED,
    # the operator
    "RetainedData": (
        "to take the data back, wish for it again: brickctl apply -f - with",
        "  kind: Volume, name: {volume}, spec: {{backend: {backend}, size_gib: {size_gib}}}",
        "to have it deleted, put on_delete: delete into that spec, wait until it is available, and then: "
        "brickctl delete volume {volume} (what was imported is never deleted here: delete it on the array)",
    ),
    "OrphanExport": (
        "the driver may still export {volume} from an earlier life; nothing is done about it on doubt",
        "look at it on the array, and on the node named above; then restore records/{volume} from a backup of etcd",
    ),
    "DetachesPaused": (
        "was that a mistake? Put the wishes back: brickctl apply -f the manifests, or brickctl attach {node} {volume}",
        "see which are concerned: brickctl get attachments",
        "if all of it is meant: brickctl detach --confirm-mass {node}; only this one: brickctl detach {node} {volume}",
    ),
    "DeletesPaused": (
        "was that a mistake? Put the wish back: brickctl apply -f the manifest of {volume}",
        "if its data is to go: brickctl delete volume {volume}",
    ),
    "LastWishUnknown": (
        "to keep the data: wish for {volume} again (brickctl apply -f its manifest), with on_delete: retain if it is to go again",
        "if its data is to go: brickctl delete volume {volume}",
    ),
    "Unreadable": _BY_HAND,
    "HoldersUnknown": _BY_HAND,
    "HoldersDiffer": _BY_HAND,
    "RecordMissing": _BY_HAND,
    "KeysMissing": (
        "daemons' keys on {volume} are gone while {node} has the device; it stays, and nothing new is made under that name",
        "restore records/, grants/, volumes/ and connections/ of {volume} from a backup of etcd",
        "without one: brickctl detach {node} {volume}, then take the volume on the array over again by a spec with import",
    ),
    "NoSpace": (
        "free space: etcdctl compact REVISION, then etcdctl defrag; or raise --quota-backend-bytes",
        "then end the alarm, and all goes on by itself: etcdctl alarm disarm",
    ),
    "NoController": (
        "is one running, and is the backend in its settings? systemctl status brickwork-controller",
        "who leads: etcdctl get --prefix {prefix}leaders/; what each backend's last word was: brickctl get backends -o wide",
    ),
    "WaitingForController": (
        "is a controller running? systemctl status brickwork-controller; what keeps it: curl -s localhost:9752/readyz",
        "who leads: etcdctl get --prefix {prefix}leaders/",
    ),
}

for _call in ("Export", "ConnectExport", "Terminate", "Unexport", "Create", "Extend", "Delete"):
    REMEDIES[f"{_call}Failed"] = _CALL_FAILED


def remedy(reason: str, place: Place) -> list[str]:
    """Lines to print; none where nothing needs to be done."""
    texts = {name: getattr(place, name) for name in Place.__dataclass_fields__}
    names = {key: text or key.upper() for key, text in texts.items()}
    return [line.format(**names) for line in REMEDIES.get(reason, ())]
