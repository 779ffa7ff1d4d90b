"""Writes the Xcode project of each app from the files in its folder, and copies models into the demo.

    python swift/Apps/make_xcodeproj.py                    rewrite the projects
    python swift/Apps/make_xcodeproj.py --check            exit 1 if a project on disk is not what would be written
    python swift/Apps/make_xcodeproj.py --models FOLDER    copy the packages of an export into the demo

The demo's project lists Models/Encoder.mlpackage and Models/Decoder.mlpackage, whatever was exported; Xcode compiles
them into the app. They are not in the repository: `make demo-app` exports edge_sam_tiny and copies it.

The output depends on the file names alone: identifiers are hashes of what they name, so adding a file changes only the
lines about that file.  Settings live in Config/*.xcconfig, not here.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from pbxproj import Project, Ref, Value, pbxproj

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class App:
    """One app: its name is that of its folder, project, target and scheme."""

    name: str
    package_path: str
    """From the folder of the project to that of Package.swift."""
    products: tuple[str, ...]
    configurations: tuple[str, ...] = ("Release",)
    """The first is that of every action of the scheme."""
    debugger: bool = False
    models: tuple[str, ...] = ()
    """Packages that are compiled into the app, present or not."""
    folder: Path | None = None
    """None: beside this file."""

    @property
    def home(self) -> Path:
        return self.folder or HERE / self.name


BENCH = App("EdgeSAMBench", "../..", ("EdgeSAM", "EdgeSAMBench"))  # only Release: a debug build is not worth measuring
DEMO = App(
    "EdgeSAMDemo",
    "../../..",
    ("EdgeSAM", "EdgeSAMUI"),
    configurations=("Release", "Debug"),  # runs Release: unoptimised, an image takes seconds to prepare
    debugger=True,
    models=("Models/Encoder.mlpackage", "Models/Decoder.mlpackage"),
)
APPS = (BENCH, DEMO)
MODELS = "Models"
IGNORED = {"Local.xcconfig", ".gitignore", ".DS_Store"}
FILE_TYPES = {
    ".swift": "sourcecode.swift",
    ".plist": "text.plist.xml",
    ".xcassets": "folder.assetcatalog",
    ".xcconfig": "text.xcconfig",
    ".example": "text.xcconfig",
    ".entitlements": "text.plist.entitlements",
    ".mlpackage": "folder.mlpackage",
}


def app_files(app: App) -> list[str]:
    """Every file of the app, relative to its folder; an asset catalogue and a model are one file each."""
    found = set(app.models)
    for path in app.home.rglob("*"):
        relative = path.relative_to(app.home)
        if relative.parts[0].endswith(".xcodeproj") or relative.parts[0] == MODELS or path.name in IGNORED:
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


def configurations(project: Project, app: App, owner: str, settings: dict[str, Value], base: Ref | None = None) -> Ref:
    every: list[Value] = []
    for name in app.configurations:
        fields: dict[str, Value] = {"buildSettings": settings, "name": name}
        if base is not None:
            fields["baseConfigurationReference"] = base
        every.append(project.add("XCBuildConfiguration", f"{owner}/{name}", name, **fields))
    return project.add(
        "XCConfigurationList",
        owner,
        f"Build configuration list for {owner}",
        buildConfigurations=every,
        defaultConfigurationIsVisible="0",
        defaultConfigurationName=app.configurations[0],
    )


def target(project: Project, app: App, references: dict[str, Ref], product: Ref, package: Ref) -> Ref:
    packaged = {
        name: project.add("XCSwiftPackageProductDependency", name, name, package=package, productName=name)
        for name in app.products
    }
    # Models are sources: as resources Xcode would copy them without compiling them.
    compiled = (".swift", ".mlpackage")
    sources = {name: ("fileRef", ref) for name, ref in references.items() if name.endswith(compiled)}
    assets = {name: ("fileRef", ref) for name, ref in references.items() if name.endswith(".xcassets")}
    return project.add(
        "PBXNativeTarget",
        app.name,
        app.name,
        buildConfigurationList=configurations(
            project, app, f'PBXNativeTarget "{app.name}"', {"PRODUCT_NAME": "$(TARGET_NAME)"}
        ),
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
        name=app.name,
        packageProductDependencies=list(packaged.values()),
        productName=app.name,
        productReference=product,
        productType="com.apple.product-type.application",
    )


def make_project(app: App) -> tuple[str, str]:
    """The text of project.pbxproj, and the identifier of the app's target."""
    project = Project()
    product = project.add(
        "PBXFileReference",
        "product",
        f"{app.name}.app",
        explicitFileType="wrapper.application",
        includeInIndex="0",
        path=f"{app.name}.app",
        sourceTree="BUILT_PRODUCTS_DIR",
    )
    main_group, references = file_tree(project, app_files(app), product)
    package = project.add(
        "XCLocalSwiftPackageReference",
        app.package_path,
        f'XCLocalSwiftPackageReference "{app.package_path}"',
        relativePath=app.package_path,
    )
    native = target(project, app, references, product, package)
    products_group = next(ref for ref, fields in project.objects.values() if fields.get("name") == "Products")
    root = project.add(
        "PBXProject",
        app.name,
        "Project object",
        attributes={"BuildIndependentTargetsInParallel": "1", "LastUpgradeCheck": "1600"},
        buildConfigurationList=configurations(
            project, app, f'PBXProject "{app.name}"', {}, base=references["Config/Base.xcconfig"]
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
        targets=[native],
    )
    return pbxproj(project, root), native.id


def element(name: str, attributes: dict[str, str], children: list[str] | None = None) -> str:
    """An XML element laid out the way Xcode does it: one attribute a line."""
    head = "\n".join([f"<{name}", *(f'   {key} = "{value}"' for key, value in attributes.items())]) + ">"
    body = ["   " + line for child in children or [] for line in child.splitlines()]
    return "\n".join([head, *body, f"</{name}>"])


def scheme(app: App, target_id: str) -> str:
    """One configuration in every action; no debugger where it would change what is measured."""
    built_app = element(
        "BuildableReference",
        {
            "BuildableIdentifier": "primary",
            "BlueprintIdentifier": target_id,
            "BuildableName": f"{app.name}.app",
            "BlueprintName": app.name,
            "ReferencedContainer": f"container:{app.name}.xcodeproj",
        },
    )
    runnable = element("BuildableProductRunnable", {"runnableDebuggingMode": "0"}, [built_app])
    built = {f"buildFor{action}": "YES" for action in ("Testing", "Running", "Profiling", "Archiving", "Analyzing")}
    entries = element("BuildActionEntries", {}, [element("BuildActionEntry", built, [built_app])])
    release = {"buildConfiguration": app.configurations[0]}
    debugger = {
        "selectedDebuggerIdentifier": "Xcode.DebuggerFoundation.Debugger.LLDB" if app.debugger else "",
        "selectedLauncherIdentifier": (
            "Xcode.DebuggerFoundation.Launcher.LLDB" if app.debugger else "Xcode.IDEFoundation.Launcher.PosixSpawn"
        ),
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
        element("TestAction", release | debugger | test, ["<Testables>\n</Testables>"]),
        element("LaunchAction", release | debugger | launch, [runnable]),
        element("ProfileAction", release | profile, [runnable]),
        element("AnalyzeAction", release),
        element("ArchiveAction", release | {"revealArchiveInOrganizer": "YES"}),
    ]
    whole = element("Scheme", {"LastUpgradeVersion": "1600", "version": "1.7"}, actions)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{whole}\n'


# A package's product of the app's name would get a scheme of the same name as the app's.
WORKSPACE_SETTINGS = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
\t<key>IDEWorkspaceSharedSettings_AutocreateContextsIfNeeded</key>
\t<false/>
</dict>
</plist>
"""


def make_files(app: App) -> dict[str, str]:
    """Path inside the app's folder -> text."""
    text, target_id = make_project(app)
    bundle = f"{app.name}.xcodeproj"
    workspace = element("Workspace", {"version": "1.0"}, [element("FileRef", {"location": "self:"})])
    return {
        f"{bundle}/project.pbxproj": text,
        f"{bundle}/project.xcworkspace/contents.xcworkspacedata": (
            f'<?xml version="1.0" encoding="UTF-8"?>\n{workspace}\n'
        ),
        f"{bundle}/project.xcworkspace/xcshareddata/WorkspaceSettings.xcsettings": WORKSPACE_SETTINGS,
        f"{bundle}/xcshareddata/xcschemes/{app.name}.xcscheme": scheme(app, target_id),
    }


def write(app: App, check: bool) -> list[str]:
    """Write the app's project unless it is only checked; return what was not up to date."""
    stale = []
    for name, text in make_files(app).items():
        path = app.home / name
        if path.is_file() and path.read_bytes() == text.encode():
            continue
        stale.append(f"{app.name}/{name}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
    return stale


def copy_models(app: App, folder: Path) -> str | None:
    """Copy the encoder's and the decoder's package of an export into an app; return the problem, if any."""
    found = {}
    for name in app.models:
        component = Path(name).stem.lower()
        matches = sorted(folder.glob(f"*_{component}.mlpackage"))
        if len(matches) != 1 or not (matches[0] / "Manifest.json").is_file():
            there = ", ".join(path.name for path in matches) or "none"
            return f"{folder}: expected one whole *_{component}.mlpackage, found: {there}; export one model into it"
        found[name] = matches[0]
    for name, package in found.items():
        shutil.rmtree(app.home / name, ignore_errors=True)
        shutil.copytree(package, app.home / name)
    return None


def main(arguments: list[str], apps: tuple[App, ...] = APPS) -> int:
    if len(arguments) == 2 and arguments[0] == "--models":
        problems = [problem for app in apps if app.models and (problem := copy_models(app, Path(arguments[1])))]
        sys.stderr.writelines(f"{problem}\n" for problem in problems)
        return 1 if problems else 0
    if arguments not in ([], ["--check"]):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    stale = [name for app in apps for name in write(app, bool(arguments))]
    if arguments and stale:
        sys.stderr.write(f"not up to date: {', '.join(stale)}; run python swift/Apps/make_xcodeproj.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
