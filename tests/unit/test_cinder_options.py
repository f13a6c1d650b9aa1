"""A backend's options: what reaches the driver is what was written, and mistakes are named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg
from oslo_config import types as cfg_types

from reconciler.adapters.cinder import options
from reconciler.runtime.ports import Terminal

CANARY = "c4n$ary"
KNOWN: dict[str, cfg.Opt] = {
    option.dest: option
    for option in (
        cfg.StrOpt("san_ip"),
        cfg.StrOpt("san_password", secret=True),
        cfg.StrOpt("vendor_api_token"),
        cfg.IntOpt("count", min=1, max=8),
        cfg.BoolOpt("thin"),
        cfg.FloatOpt("ratio"),
        cfg.PortOpt("port"),
        cfg.StrOpt("mode", choices=["fast", "safe"]),
        cfg.ListOpt("pools"),
        cfg.ListOpt("port_groups", bounds=True),
        cfg.DictOpt("limits"),
        cfg.MultiStrOpt("targets"),
        cfg.Opt("level", type=cfg_types.String(regex=r"^(auto|\d+)$")),
    )
}


class Driver:
    """As much of a driver as is asked for its options."""

    @staticmethod
    def get_driver_options() -> list[cfg.Opt]:
        return [KNOWN["san_ip"], KNOWN["count"]]


def round_trip(tmp_path: Path, values: Mapping[str, Any], secret: tuple[str, ...] = ()) -> Any:
    """What oslo.config makes of the section that is written for these values."""
    path = tmp_path / "options.conf"
    path.write_text(options.section("be", values, KNOWN, secret))
    conf = cfg.ConfigOpts()
    conf.register_opts(list(KNOWN.values()), group="be")
    conf(["--config-file", str(path)], project="test", default_config_dirs=[])
    return conf.be


PASSWORDS = [
    "pa$$word",
    "$san_ip",
    "${x}",
    "'quoted'",
    '"',
    '"x',
    " spaces ",
    "a # b",
    "#",
    ";",
    "p%(x)s",
    "ü;=",
    "[x]",
    "\\",
    "",
]


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_arrives_as_it_is(tmp_path: Path, password: str) -> None:
    assert round_trip(tmp_path, {"san_password": password}).san_password == password
    assert round_trip(tmp_path, {"vendor_api_token": password}).vendor_api_token == password
    assert round_trip(tmp_path, {"san_ip": password}, secret=("san_ip",)).san_ip == password


@pytest.mark.parametrize(
    ("name", "value", "arrives"),
    [
        ("count", 3, 3),
        ("count", "3", 3),
        ("thin", False, False),
        ("thin", "yes", True),
        ("ratio", 1.5, 1.5),
        ("port", 8443, 8443),
        ("mode", "safe", "safe"),
        ("pools", ["a", "b"], ["a", "b"]),
        ("pools", "a,b", ["a", "b"]),
        ("port_groups", ["a", "b"], ["a", "b"]),
        ("limits", {"a": 1, "b": 2}, {"a": "1", "b": "2"}),
        ("targets", ["a:1", "b,c"], ["a:1", "b,c"]),
        ("targets", "a", ["a"]),
        ("level", "auto", "auto"),
        ("level", 7, "7"),
    ],
)
def test_values_arrive_in_their_type(tmp_path: Path, name: str, value: Any, arrives: Any) -> None:
    assert getattr(round_trip(tmp_path, {name: value}), name) == arrives


def test_a_dollar_refers_to_another_option_where_no_secret_is_meant(tmp_path: Path) -> None:
    assert round_trip(tmp_path, {"mode": "safe", "san_ip": "$mode"}).san_ip == "safe"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("count", 9, "count is '9', but must be a whole number, at least 1, at most 8"),
        ("count", "many", "count is 'many', but must be a whole number"),
        ("thin", "maybe", "'maybe', but must be true or false"),
        ("ratio", "x", "must be a number"),
        ("port", 70000, "must be a port number"),
        ("mode", "slow", "must be one of fast, safe"),
        ("limits", "a", "must be key:value pairs"),
        ("level", "x", r"must be a text, matching \^\(auto"),
        ("san_ip", None, "san_ip has no value"),
        ("san_ip", "a\nb", "line break"),
        ("san_password", r"a\$b", "cannot express"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(name: str, value: Any, words: str) -> None:
    with pytest.raises(Terminal, match=words):
        options.section("be", {name: value}, KNOWN, secret=())


def test_an_unknown_name_is_refused_with_the_nearest_and_the_drivers_own() -> None:
    with pytest.raises(Terminal, match=r"unknown option san_pi; did you mean san_ip\? Driver has: count, san_ip"):
        options.refuse_unknown(["san_ip", "san_pi"], KNOWN, Driver)


def test_an_unknown_name_in_an_existing_file_is_only_remarked_upon() -> None:
    assert options.unknown(["san_pi", "xyzzy"], KNOWN) == [
        "nobody reads option san_pi; did you mean san_ip?",
        "nobody reads option xyzzy",
    ]


NAMES = {
    name: cfg.StrOpt(name)
    for name in (
        "iser_ip_address", "iser_helper", "iser_port", "target_ip_address", "target_helper", "target_port", "target_prefix",
        "target_secondary_ip_addresses", "powerflex_storage_pools", "powermax_srp", "nas_host", "max_over_subscription_ratio",
        "reserved_percentage", "num_volume_device_scan_tries", "nfs_mount_point_base", "hpmsa_api_protocol", "storage_protocol",
    )
}  # fmt: skip


@pytest.mark.parametrize(
    ("former", "words"),
    [
        ("iscsi_ip_address", "Cinder calls it target_ip_address now"),
        ("iscsi_helper", "Cinder calls it target_helper now"),
        ("iscsi_port", "Cinder calls it target_port now"),
        ("iscsi_target_prefix", "Cinder calls it target_prefix now"),
        ("iscsi_secondary_ip_addresses", "Cinder calls it target_secondary_ip_addresses now"),
        ("sio_storage_pools", "Cinder calls it powerflex_storage_pools now"),
        ("vmax_srp", "Cinder calls it powermax_srp now"),
        ("nas_ip", "Cinder calls it nas_host now"),
        ("nfs_oversub_ratio", "Cinder calls it max_over_subscription_ratio now"),
        ("nfs_used_ratio", "Cinder has removed it: reserved_percentage"),
        ("num_iscsi_scan_tries", "Cinder calls it num_volume_device_scan_tries now"),
    ],
)
def test_f_b10_a_former_name_is_told_with_what_took_its_place(former: str, words: str) -> None:
    with pytest.raises(Terminal, match=f"unknown option {former}: {words}"):
        options.refuse_unknown([former], NAMES, Driver)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("iscsi_protocol", ""),  # its new name is none of this driver's
        ("iscsi_flags", ""),
        ("target_ip_adress", "target_ip_address"),
        ("targetip_address", "target_ip_address"),
        ("san_ip_address", ""),
        ("nfs_mount_point_bse", "nfs_mount_point_base"),
    ],
)
def test_f_b10_only_a_typo_is_taken_for_another_option(given: str, meant: str) -> None:
    (remark,) = options.unknown([given], NAMES)
    assert remark == f"nobody reads option {given}" + (f"; did you mean {meant}?" if meant else "")


# --- Files of secrets ----------------------------------------------------------------------------------------------------


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.yaml"
    path.write_text(f"san_password: {CANARY}\n")
    path.chmod(0o600)
    return path


def test_a_private_file_of_secrets_is_read(secrets: Path) -> None:
    assert options.read_secrets(secrets) == {"san_password": CANARY}


def test_secrets_are_what_was_written(secrets: Path) -> None:
    """F-B3: a password of digits reached the driver as another number."""
    given = {"a": "0123456", "b": "12:30:45", "c": "2026-11-23", "d": "1_000", "e": "1e3", "f": "007", "g": "off"}
    secrets.write_text("".join(f"{name}: {text}\n" for name, text in given.items()))
    assert options.read_secrets(secrets) == given


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_secrets_that_others_may_read_are_refused(secrets: Path, mode: int) -> None:
    secrets.chmod(mode)
    with pytest.raises(Terminal, match=f"chmod 600 {secrets}"):
        options.read_secrets(secrets)


@pytest.mark.parametrize("content", ["- a list", "san_password: [c4n$ary", "c4n$ary", "1: c4n$ary", ""])
def test_secrets_that_are_no_mapping_are_refused_without_being_shown(secrets: Path, content: str) -> None:
    secrets.write_text(content)
    with pytest.raises(Terminal) as caught:
        options.read_secrets(secrets)
    assert CANARY not in str(caught.value)


def test_a_missing_file_of_secrets_is_named(tmp_path: Path) -> None:
    with pytest.raises(Terminal, match="absent cannot be read: No such file"):
        options.read_secrets(tmp_path / "absent")
