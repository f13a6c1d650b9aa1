"""Real hosts for the end-to-end tests: three guests on their own networks, made of User-mode Linux.

No KVM, no image and no boot loader: a guest is an ordinary process that is up in seconds, with a real kernel of its
own, so that iSCSI, LIO, device-mapper, multipath, udev and NFS are the real ones.

Read `topology.py` first (what there is), then `guest.py` (what a test can do to one of them), then `channel.py`
(how commands get in), `network.py` and `etcd.py`.
"""
