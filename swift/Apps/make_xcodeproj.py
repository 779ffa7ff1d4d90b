"""Writes EdgeSAMBench.xcodeproj from the files in EdgeSAMBench/.

    python swift/Apps/make_xcodeproj.py            rewrite the project
    python swift/Apps/make_xcodeproj.py --check    exit 1 if the project on disk is not what would be written

The output depends on the file names alone: identifiers are hashes of what they name, so adding a file changes only the
lines about that file.  Settings live in Config/*.xcconfig, not here.
"""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

NAME = "EdgeSAMBench"
HERE = Path(__file__).resolve().parent
APP = HERE / NAME
PACKAGE_PATH = "../.."  # from the folder of the project to swift/, where Package.swift lies
PRODUCTS = ("EdgeSAM", "EdgeSAMBench")
CONFIGURATION = "Release"  # the only one: a debug build is not worth measuring
IGNORED = {"Local.xcconfig", ".gitignore", ".DS_Store"}
FILE_TYPES = {
    ".swift": "sourcecode.swift",
    ".plist": "text.plist.xml",
    ".xcassets": "folder.assetcatalog",
    ".xcconfig": "text.xcconfig",
    ".example": "text.xcconfig",
    ".entitlements": "text.plist.entitlements",
}
ONE_LINE = {"PBXBuildFile", "PBXFileReference"}
PLAIN = re.compile(r"[A-Za-z0-9_./$]+")

Value = "str | Ref | list[Value] | dict[str, Value]"


@dataclass(frozen=True)
class Ref:
    """An identifier, and what Xcode writes behind it as a comment."""

    id: str
    comment: str = ""


@dataclass
class Project:
    objects: dict[str, tuple[Ref, dict[str, Value]]] = field(default_factory=dict)

    def add(self, isa: str, key: str, comment: str = "", **fields: Value) -> Ref:
        """Add an object; ``isa`` and ``key`` together name it for ever."""
        ref = Ref(hashlib.sha256(f"{isa}:{key}".encode()).hexdigest()[:24].upper(), comment)
        if ref.id in self.objects:
            raise ValueError(f"two objects are called {isa} {key}")
        self.objects[ref.id] = (ref, {"isa": isa, **dict(sorted(fields.items()))})
        return ref


def quoted(text: str) -> str:
    if PLAIN.fullmatch(text) and "//" not in text:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def rendered(value: Value, depth: int, one_line: bool = False) -> str:
    """An OpenStep property list value, indented the way Xcode does it."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Ref):
        return f"{value.id} /* {value.comment} */" if value.comment else value.id
    gap, end = (" ", "") if one_line else ("\n" + "\t" * (depth + 1), "\n" + "\t" * depth)
    if isinstance(value, list):
        return "(" + "".join(f"{gap}{rendered(item, depth + 1)}," for item in value) + f"{end})"
    inner = "".join(f"{gap}{quoted(k)} = {rendered(v, depth + 1)};" for k, v in value.items())
    return "{" + (inner.lstrip() + " " if one_line else inner + end) + "}"


def pbxproj(project: Project, root: Ref) -> str:
    lines = ["// !$*UTF8*$!", "{", "\tarchiveVersion = 1;", "\tclasses = {", "\t};", "\tobjectVersion = 60;"]
    lines += ["\tobjects = {"]
    for isa in sorted({str(fields["isa"]) for _, fields in project.objects.values()}):
        lines += ["", f"/* Begin {isa} section */"]
        for _, (ref, fields) in sorted(project.objects.items()):
            if fields["isa"] == isa:
                lines.append(f"\t\t{rendered(ref, 2)} = {rendered(fields, 2, one_line=isa in ONE_LINE)};")
        lines.append(f"/* End {isa} section */")
    return "\n".join([*lines, "\t};", f"\trootObject = {rendered(root, 1)};", "}", ""])


def app_files() -> list[str]:
    """Every file of the app, relative to its folder; an asset catalogue is one file."""
    found = set()
    for path in APP.rglob("*"):
        relative = path.relative_to(APP)
        if relative.parts[0].endswith(".xcodeproj") or path.name in IGNORED:
            continue
        parts = [i for i, part in enumerate(relative.parts) if part.endswith(".xcassets")]
        if parts:
            found.add("/".join(relative.parts[: parts[0] + 1]))
        elif path.is_file():
            found.add(relative.as_posix())
    for name in sorted(found):
        if Path(name).suffix not in FILE_TYPES:
            raise ValueError(f"{name}: no file type known for it; add it to FILE_TYPES")
    return sorted(found)


def file_tree(project: Project, files: list[str], product: Ref) -> tuple[Ref, dict[str, Ref]]:
    """Groups like the folders, and a reference for every file."""
    references = {
        name: project.add(
            "PBXFileReference",
            name,
            Path(name).name,
            lastKnownFileType=FILE_TYPES[Path(name).suffix],
            path=Path(name).name,
            sourceTree="<group>",
        )
        for name in files
    }
    top: list[Value] = []
    for folder in sorted({name.split("/")[0] for name in files if "/" in name}):
        deeper = [name for name in files if name.startswith(f"{folder}/")]
        if any(name.count("/") > 1 for name in deeper):
            raise ValueError(f"{folder}: folders inside folders are not supported")
        children: list[Value] = [references[name] for name in deeper]
        top.append(project.add("PBXGroup", folder, folder, children=children, path=folder, sourceTree="<group>"))
    top += [references[name] for name in files if "/" not in name]
    top.append(
        project.add("PBXGroup", "Products", "Products", children=[product], name="Products", sourceTree="<group>")
    )
    return project.add("PBXGroup", "", children=top, sourceTree="<group>"), references


def phase(project: Project, isa: str, title: str, members: dict[str, tuple[str, Ref]]) -> Ref:
    """A build phase; ``members`` maps a name to the field of the build file and what it refers to."""
    entries: list[Value] = [
        project.add("PBXBuildFile", f"{title}/{name}", f"{name.split('/')[-1]} in {title}", **{key: ref})
        for name, (key, ref) in members.items()
    ]
    return project.add(
        isa, title, title, buildActionMask="2147483647", files=entries, runOnlyForDeploymentPostprocessing="0"
    )


def configurations(project: Project, owner: str, settings: dict[str, Value], base: Ref | None = None) -> Ref:
    fields: dict[str, Value] = {"buildSettings": settings, "name": CONFIGURATION}
    if base is not None:
        fields["baseConfigurationReference"] = base
    one = project.add("XCBuildConfiguration", f"{owner}/{CONFIGURATION}", CONFIGURATION, **fields)
    return project.add(
        "XCConfigurationList",
        owner,
        f"Build configuration list for {owner}",
        buildConfigurations=[one],
        defaultConfigurationIsVisible="0",
        defaultConfigurationName=CONFIGURATION,
    )


def target(project: Project, references: dict[str, Ref], product: Ref, package: Ref) -> Ref:
    packaged = {
        name: project.add("XCSwiftPackageProductDependency", name, name, package=package, productName=name)
        for name in PRODUCTS
    }
    sources = {name: ("fileRef", ref) for name, ref in references.items() if name.endswith(".swift")}
    assets = {name: ("fileRef", ref) for name, ref in references.items() if name.endswith(".xcassets")}
    return project.add(
        "PBXNativeTarget",
        NAME,
        NAME,
        buildConfigurationList=configurations(project, f'PBXNativeTarget "{NAME}"', {"PRODUCT_NAME": "$(TARGET_NAME)"}),
        buildPhases=[
            phase(project, "PBXSourcesBuildPhase", "Sources", sources),
            phase(
                project,
                "PBXFrameworksBuildPhase",
                "Frameworks",
                {name: ("productRef", ref) for name, ref in packaged.items()},
            ),
            phase(project, "PBXResourcesBuildPhase", "Resources", assets),
        ],
        buildRules=[],
        dependencies=[],
        name=NAME,
        packageProductDependencies=list(packaged.values()),
        productName=NAME,
        productReference=product,
        productType="com.apple.product-type.application",
    )


def make_project() -> tuple[str, str]:
    """The text of project.pbxproj, and the identifier of the app's target."""
    project = Project()
    product = project.add(
        "PBXFileReference",
        "product",
        f"{NAME}.app",
        explicitFileType="wrapper.application",
        includeInIndex="0",
        path=f"{NAME}.app",
        sourceTree="BUILT_PRODUCTS_DIR",
    )
    main_group, references = file_tree(project, app_files(), product)
    package = project.add(
        "XCLocalSwiftPackageReference",
        PACKAGE_PATH,
        f'XCLocalSwiftPackageReference "{PACKAGE_PATH}"',
        relativePath=PACKAGE_PATH,
    )
    app = target(project, references, product, package)
    products_group = next(ref for ref, fields in project.objects.values() if fields.get("name") == "Products")
    root = project.add(
        "PBXProject",
        NAME,
        "Project object",
        attributes={"BuildIndependentTargetsInParallel": "1", "LastUpgradeCheck": "1600"},
        buildConfigurationList=configurations(
            project, f'PBXProject "{NAME}"', {}, base=references["Config/Base.xcconfig"]
        ),
        compatibilityVersion="Xcode 15.0",
        developmentRegion="en",
        hasScannedForEncodings="0",
        knownRegions=["en", "Base"],
        mainGroup=main_group,
        packageReferences=[package],
        productRefGroup=products_group,
        projectDirPath="",
        projectRoot="",
        targets=[app],
    )
    return pbxproj(project, root), app.id


def element(name: str, attributes: dict[str, str], children: list[str] | None = None) -> str:
    """An XML element laid out the way Xcode does it: one attribute a line."""
    head = "\n".join([f"<{name}", *(f'   {key} = "{value}"' for key, value in attributes.items())]) + ">"
    body = ["   " + line for child in children or [] for line in child.splitlines()]
    return "\n".join([head, *body, f"</{name}>"])


def scheme(target_id: str) -> str:
    """Release in every action and no debugger: both change what is measured."""
    app = element(
        "BuildableReference",
        {
            "BuildableIdentifier": "primary",
            "BlueprintIdentifier": target_id,
            "BuildableName": f"{NAME}.app",
            "BlueprintName": NAME,
            "ReferencedContainer": f"container:{NAME}.xcodeproj",
        },
    )
    runnable = element("BuildableProductRunnable", {"runnableDebuggingMode": "0"}, [app])
    built = {f"buildFor{action}": "YES" for action in ("Testing", "Running", "Profiling", "Archiving", "Analyzing")}
    entries = element("BuildActionEntries", {}, [element("BuildActionEntry", built, [app])])
    release = {"buildConfiguration": CONFIGURATION}
    no_debugger = {
        "selectedDebuggerIdentifier": "",
        "selectedLauncherIdentifier": "Xcode.IDEFoundation.Launcher.PosixSpawn",
    }
    test = {"shouldUseLaunchSchemeArgsEnv": "YES"}
    launch = {
        "disableMainThreadChecker": "YES",
        "launchStyle": "0",
        "useCustomWorkingDirectory": "NO",
        "ignoresPersistentStateOnLaunch": "NO",
        "debugDocumentVersioning": "NO",
        "debugServiceExtension": "internal",
        "allowLocationSimulation": "NO",
    }
    profile = {
        "shouldUseLaunchSchemeArgsEnv": "YES",
        "savedToolIdentifier": "",
        "useCustomWorkingDirectory": "NO",
        "debugDocumentVersioning": "NO",
    }
    actions = [
        element("BuildAction", {"parallelizeBuildables": "YES", "buildImplicitDependencies": "YES"}, [entries]),
        element("TestAction", release | no_debugger | test, ["<Testables>\n</Testables>"]),
        element("LaunchAction", release | no_debugger | launch, [runnable]),
        element("ProfileAction", release | profile, [runnable]),
        element("AnalyzeAction", release),
        element("ArchiveAction", release | {"revealArchiveInOrganizer": "YES"}),
    ]
    whole = element("Scheme", {"LastUpgradeVersion": "1600", "version": "1.7"}, actions)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{whole}\n'


# The package's product EdgeSAMBench would get a scheme of the same name as the app's.
WORKSPACE_SETTINGS = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
\t<key>IDEWorkspaceSharedSettings_AutocreateContextsIfNeeded</key>
\t<false/>
</dict>
</plist>
"""


def make_files() -> dict[str, str]:
    """Path inside EdgeSAMBench/ -> text."""
    text, target_id = make_project()
    bundle = f"{NAME}.xcodeproj"
    workspace = element("Workspace", {"version": "1.0"}, [element("FileRef", {"location": "self:"})])
    return {
        f"{bundle}/project.pbxproj": text,
        f"{bundle}/project.xcworkspace/contents.xcworkspacedata": (
            f'<?xml version="1.0" encoding="UTF-8"?>\n{workspace}\n'
        ),
        f"{bundle}/project.xcworkspace/xcshareddata/WorkspaceSettings.xcsettings": WORKSPACE_SETTINGS,
        f"{bundle}/xcshareddata/xcschemes/{NAME}.xcscheme": scheme(target_id),
    }


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    stale = []
    for name, text in make_files().items():
        path = APP / name
        if path.is_file() and path.read_bytes() == text.encode():
            continue
        stale.append(name)
        if not arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
    if arguments and stale:
        sys.stderr.write(f"not up to date: {', '.join(stale)}; run python swift/Apps/make_xcodeproj.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
