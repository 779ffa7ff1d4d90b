"""The failure table: every row is reached by the error it stands for, and by nothing else."""

from __future__ import annotations

import pytest

from edgesam_export.bench.devices.failures import (
    BUILD_FAILURES,
    FAILURES,
    RETRIES,
    classify,
    describe_chain,
    failure_of_kind,
    make_failure,
)
from edgesam_export.errors import BuildFailure, DeviceFailure, DeviceNotReady

CORE = "com.apple.dt.CoreDeviceError"
FBS = "FBSOpenApplicationErrorDomain"
POSIX, COCOA = "NSPOSIXErrorDomain", "NSCocoaErrorDomain"
WRAPPER = (CORE, 10002, "The application failed to launch.")
REFUSED = (CORE, 3002, "Failed to install the app on the device.")
FREE_APPS = "This device has reached the maximum number of installed apps using a free developer profile: {(...)}"
EXPIRED = "0xe8008015 (A valid provisioning profile for this executable was not found.)"

CASES = [
    # chain, command, kind, exit code, retry policy
    ([(CORE, 2, "")], "launch", "not_paired", 4, "never"),
    ([(CORE, 4, "")], "launch", "wifi_only", 4, "never"),
    ([(CORE, 1000, "")], "pull", "device_gone", 4, "reconnect"),
    ([(CORE, 1011, "")], "pull", "device_gone", 4, "reconnect"),
    ([(CORE, 1001, "")], "install", "unsupported", 4, "never"),
    ([(CORE, 1005, ""), (COCOA, 260, "")], "push", "source_missing", 6, "never"),
    ([(CORE, 3000, "")], "install", "bundle_invalid", 5, "never"),
    ([(CORE, 3002, "")], "install", "install_refused", 5, "never"),
    ([(CORE, 3002, ""), ("IXRemoteErrorDomain", 6, "")], "install", "install_interrupted", 5, "once"),
    ([(CORE, 4000, "")], "push", "transient", 4, "transient"),
    ([(CORE, 4000, ""), ("com.apple.dt.RemotePairingError", 4, "")], "push", "transient", 4, "transient"),
    ([(CORE, 7000, "")], "pull", "file_missing", 6, "expected"),
    ([WRAPPER, ("FBSOpenApplicationServiceErrorDomain", 1, ""), (FBS, 7, "")], "launch", "locked", 4, "unlock"),
    ([WRAPPER, (FBS, 3, "")], "launch", "untrusted", 4, "never"),
    ([WRAPPER, (FBS, 5, "Busy: a system prompt is pending")], "launch", "busy", 4, "busy"),
    ([(CORE, 12040, "")], "details", "developer_mode", 4, "never"),
    (
        [
            (CORE, 12040, "The developer disk image could not be mounted on this device."),
            ("com.apple.mobiledevice", -402652958, "0xe80000e2 (kAMDMobileImageMounterDeviceLocked)"),
        ],
        "details",
        "locked",
        4,
        "unlock",
    ),
    ([WRAPPER, ("NSOSStatusErrorDomain", -10814, "")], "launch", "not_installed", 6, "never"),
    ([(POSIX, 3, "No such process")], "terminate", "process_gone", 6, "never"),
    ([("com.apple.CoreDevice.ControlChannelConnectionError", 1, "")], "pull", "device_gone", 4, "reconnect"),
    ([(CORE, 9999, ""), ("Network.NWError", 60, "")], "pull", "device_gone", 4, "reconnect"),
    ([("com.apple.mobiledevice", -402653181, "")], "launch", "locked", 4, "unlock"),
    ([(CORE, 7001, ""), (COCOA, 513, "")], "push", "not_writable", 6, "never"),
    ([(POSIX, 1, "EPERM")], "push", "not_writable", 6, "never"),
    ([(POSIX, 13, "EACCES")], "push", "not_writable", 6, "never"),
    ([(CORE, 7001, ""), (POSIX, 28, "")], "push", "disk_full", 6, "never"),
    ([(COCOA, 640, "")], "push", "disk_full", 6, "never"),
    ([WRAPPER, (POSIX, 22, "Invalid argument")], "launch", "launch_refused", 6, "transient"),
    ([WRAPPER, ("FBProcessExit", 128, "The process exited.")], "launch", "app_exited", 6, "never"),
    ([REFUSED, ("MIInstallerErrorDomain", 13, FREE_APPS)], "install", "free_apps", 5, "never"),
    ([(CORE, 3002, FREE_APPS)], "install", "free_apps", 5, "never"),
    ([REFUSED, ("MIInstallerErrorDomain", 13, EXPIRED)], "install", "profile_expired", 5, "never"),
    ([REFUSED, ("MIInstallerErrorDomain", 13, "no such reason")], "install", "install_refused", 5, "never"),
]


@pytest.mark.parametrize(
    ("chain", "command", "kind", "exit_code", "retry"), CASES, ids=[f"{c[0][-1][0]}-{c[0][-1][1]}" for c in CASES]
)
def test_an_error_by_domain_and_code(chain, command, kind, exit_code, retry):
    row = classify(chain, command=command)
    assert row is not None and (row.kind, row.error.exit_code, row.retry) == (kind, exit_code, retry)
    failure = make_failure("launch on Bench Phone", row, tuple(chain))
    assert failure.kind == kind and failure.exit_code == exit_code and "\n" not in str(failure)
    assert row.meaning in str(failure) and row.hint in str(failure)


@pytest.mark.parametrize(
    ("words", "command", "kind"),
    [
        ("Unable to launch: the device was not, or could not be, unlocked.", "launch", "locked"),
        ("profile has not been explicitly trusted by the user", "launch", "untrusted"),
        ("FBSApplicationLibrary returned nil for com.example", "launch", "not_installed"),
        ("This operation requires Developer Mode.", "details", "developer_mode"),
        ("The device must be paired first", "details", "not_paired"),
        ("write failed: No space left on device", "push", "disk_full"),
        ("Container not found for com.example", "push", "container_missing"),
        ("error: Unknown option '--environment-variables'", "launch", "option_unknown"),
        ('xcrun: error: unable to find utility "devicectl"', "list", "tool_missing"),
    ],
)
def test_an_error_by_words_where_no_code_is_known(words, command, kind):
    assert classify((), words, command=command).kind == kind
    assert classify([(CORE, 31337, words)], command=command).kind == kind


def test_a_code_goes_before_words_and_the_inner_error_before_its_wrapper():
    chain = [(CORE, 4000, "the device is locked"), (FBS, 3, "unlock the device")]
    assert classify(chain).kind == "untrusted"
    assert classify([(CORE, 4000, "the device is locked")]).kind == "transient"


def test_a_domain_must_match_whole_parts():
    assert classify([("com.example.NotRemotePairingError", 4, "")]) is None
    assert classify([("RemotePairingError", 4, "")]).kind == "transient"


def test_an_invalid_argument_passes_by_itself_only_after_a_launch():
    assert classify([(CORE, 7001, ""), (POSIX, 22, "Invalid argument")], command="push") is None


@pytest.mark.parametrize("command", ["launch", "pull", ""])
def test_no_such_process_is_a_success_of_terminate_only(command):
    assert classify([(POSIX, 3, "")], command=command) is None


def test_blocked_is_not_locked():
    assert classify((), "the request was blocked") is None


def test_an_unknown_error_carries_the_whole_chain():
    chain = ((CORE, 31337, "Something new"), ("Deeper.Domain", 5, "two\nlines"), ("X", None, ""))
    assert classify(chain) is None
    failure = make_failure("push on Bench Phone", None, chain, log="run/log/0003_push.*")
    assert type(failure) is DeviceFailure and failure.exit_code == 6 and failure.chain == chain
    assert str(failure) == (
        "push on Bench Phone failed: com.apple.dt.CoreDeviceError 31337: Something new -> Deeper.Domain 5: two lines "
        "-> X; log: run/log/0003_push.*"
    )


def test_a_chain_in_one_line():
    assert describe_chain([("A", 1, "b c")]) == "A 1: b c"


BUILD_CASES = [
    ('Signing for "EdgeSAMBench" requires a development team. Select a development team', "no_team", "--team"),
    ("error: No profiles for 'com.example.EdgeSAMBench' were found", "no_profile", "--bundle-id"),
    (
        'error: Device "Bench" isn\'t registered in your developer account.',
        "device_not_registered",
        "--register-device",
    ),
    (
        "Your team has no devices from which to generate a provisioning profile.",
        "team_without_devices",
        "cable|connect",
    ),
    ("error: No Accounts: Add a new account in Accounts settings.", "no_account", "Accounts"),
    ("Code signing failed: errSecInternalComponent", "keychain", "unlock-keychain"),
    ("error: Failed Registering Bundle Identifier", "identifier_taken", "--bundle-id"),
    (
        "error: Communication with Apple failed: Your maximum App ID limit has been reached. You may create up to 10 "
        "App IDs every 7 days.",
        "free_identifiers",
        "--bundle-id",
    ),
    (
        "error: Your account already has the maximum number of certificates.",
        "free_certificates",
        "revoke",
    ),
    (
        "error: Cannot create a iOS App Development provisioning profile. Personal development teams do not support "
        "the Increased Memory Limit capability.\nerror: No profiles for 'org.edgesam.bench.T' were found",
        "entitlement_refused",
        "--increased-memory",
    ),
    ("iOS 18.2 is not installed. Please download and install the platform", "platform_missing", "downloadPlatform"),
]


@pytest.mark.parametrize(("words", "kind", "hint"), BUILD_CASES, ids=[case[1] for case in BUILD_CASES])
def test_what_xcodebuild_says(words, kind, hint):
    row = classify((), f"note: building\n{words}\n** BUILD FAILED **", table=BUILD_FAILURES)
    assert row.kind == kind and row.error is BuildFailure
    assert any(part in row.hint for part in hint.split("|"))
    assert classify((), words) is None  # not taken for a failure of the device


def test_every_row_is_reached_by_a_test_and_has_a_policy():
    tested = {case[2] for case in CASES} | {case[1] for case in BUILD_CASES}
    tested |= {"option_unknown", "tool_missing", "container_missing", "tool_timeout", "no_answer"}
    rows = (*FAILURES, *BUILD_FAILURES)
    assert {row.kind for row in rows} == tested
    for row in rows:
        assert row.retry in RETRIES and row.meaning
        assert row.hint or row.kind == "process_gone"
        assert (row.code is None) or (row.domain is not None)
        assert row.text is None or row.text == row.text.lower()


def test_kinds_agree_on_retry_and_exit_code():
    for kind in {row.kind for row in FAILURES}:
        assert len({(row.retry, row.error) for row in FAILURES if row.kind == kind}) == 1, kind
    assert failure_of_kind("locked").error is DeviceNotReady
