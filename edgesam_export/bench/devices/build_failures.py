"""What can go wrong when the app is built and signed, by words of xcodebuild and codesign."""

from __future__ import annotations

from edgesam_export.bench.devices.failure_rows import Failure
from edgesam_export.errors import BuildFailure

__all__ = ["BUILD_FAILURES"]

BUILD_FAILURES: tuple[Failure, ...] = (
    Failure(
        "no_team",
        None,
        None,
        "requires a development team",
        "no development team is set",
        "give --team, the ten characters beside your name in Xcode > Settings > Accounts",
        BuildFailure,
    ),
    Failure(
        "keychain",
        None,
        None,
        "errsecinternalcomponent",
        "the keychain is locked",
        "run `security unlock-keychain` in this session, as over ssh it stays locked",
        BuildFailure,
    ),
    Failure(
        "device_not_registered",
        None,
        None,
        "registered in your developer account|isn't registered|isn’t registered|not registered",
        "the device is not registered with the team",
        "give --register-device",
        BuildFailure,
    ),
    Failure(
        "team_without_devices",
        None,
        None,
        "has no devices",
        "the team has no device to make a profile for",
        "connect the device and give --register-device",
        BuildFailure,
    ),
    Failure(
        "no_account",
        None,
        None,
        "no accounts|no account for team",
        "Xcode knows no account",
        "add one in Xcode > Settings > Accounts, or give an App Store Connect key",
        BuildFailure,
    ),
    Failure(
        "free_identifiers",
        None,
        None,
        "maximum app id limit",
        "a free account may register ten identifiers in seven days",
        "give the --bundle-id of an app that this team has built before, or wait",
        BuildFailure,
    ),
    Failure(
        "free_certificates",
        None,
        None,
        "maximum number of certificates",
        "the account has as many development certificates as it may have",
        "revoke one in Xcode > Settings > Accounts > Manage Certificates, or sign on the Mac that has it",
        BuildFailure,
    ),
    Failure(
        "entitlement_refused",
        None,
        None,
        "increased memory limit|increased-memory-limit",
        "the team may not raise the app's memory limit",
        "leave out --increased-memory, or sign with a paid team",
        BuildFailure,
    ),
    Failure(
        "no_profile",
        None,
        None,
        "no profiles for|requires a provisioning profile|doesn't include signing certificate",
        "no provisioning profile fits",
        "give a --bundle-id of your own and check the team",
        BuildFailure,
    ),
    Failure(
        "identifier_taken",
        None,
        None,
        "failed registering bundle identifier",
        "the bundle identifier belongs to somebody else",
        "give a --bundle-id of your own",
        BuildFailure,
    ),
    Failure(
        "platform_missing",
        None,
        None,
        'is not installed. please download|sdk "iphoneos" cannot be located|unable to find a destination',
        "the iOS platform is not installed in Xcode",
        "run `xcodebuild -downloadPlatform iOS`",
        BuildFailure,
    ),
)
"""Failures of building and signing; the first row that matches explains one."""
