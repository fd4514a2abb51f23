"""A Java 17 runtime and Maven: this machine's where they suit, else Debian's, unpacked."""

load("//tools/debian:debian.bzl", "fetch_debian")
load("//tools/dev/servers:fetching.bzl", "build_file")

_MAJOR = "17"  # What Cassandra 5.0 runs on (its NEWS.txt: Java 11 and 17); Kafka 4 asks for 17 or later.
_DEBIAN_JAVA = "root/usr/lib/jvm/java-17-openjdk-amd64/bin/java"
_ENVIRON = ["WELLSPRING_DEBIAN_JAVA", "WELLSPRING_DEBIAN_MIRRORS", "WELLSPRING_DEBIAN_STALE_INDEX"]

def _suits(rctx, java):
    done = rctx.execute([java, "-XshowSettings:properties", "-version"], timeout = 60)
    for line in done.stderr.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "java.specification.version":
            return value.strip() == _MAJOR
    return False

def _machine_java(rctx):
    home = rctx.os.environ.get("JAVA_HOME", "")
    for java in [rctx.path(home + "/bin/java") if home else None, rctx.which("java")]:
        if java and java.exists and _suits(rctx, java):
            return java
    return None

def _java_runtime_impl(rctx):
    java = None if rctx.os.environ.get("WELLSPRING_DEBIAN_JAVA") == "1" else _machine_java(rctx)
    files = ["java.txt"]
    if java:
        rctx.watch(java)
        rctx.file("java.txt", str(java.realpath) + "\n", executable = False)
    else:
        if fetch_debian(rctx, rctx.attr.lock):
            files += ["root", "versions.txt"]
        rctx.file("java.txt", _DEBIAN_JAVA + "\n", executable = False)
    build_file(rctx, {"files": files})

java_runtime = repository_rule(
    doc = """A Java 17 runtime. java.txt names its `java`: an absolute path, or one in this repository.

    WELLSPRING_DEBIAN_JAVA=1 takes Debian's even where the machine has one.
    """,
    implementation = _java_runtime_impl,
    attrs = {"lock": attr.label(mandatory = True, allow_single_file = True)},
    environ = ["JAVA_HOME"] + _ENVIRON,
)

def java_path(rctx, label):
    """The absolute path of the `java` that `label` (java.txt of a java_runtime) names."""
    named = rctx.read(label).strip()
    return rctx.path(named if named.startswith("/") else str(rctx.path(label).dirname) + "/" + named)

def _maven_client_impl(rctx):
    machine = None if rctx.os.environ.get("WELLSPRING_DEBIAN_JAVA") == "1" else rctx.which("mvn")
    if machine:
        rctx.watch(machine)
    else:
        fetch_debian(rctx, rctx.attr.lock)
    rctx.file("mvn.txt", str(machine or "") + "\n", executable = False)
    build_file(rctx, {"files": ["mvn.txt"]})

maven_client = repository_rule(
    doc = "Maven. mvn.txt holds the absolute path of this machine's `mvn`; it is empty when Debian's Maven is in root/.",
    implementation = _maven_client_impl,
    attrs = {"lock": attr.label(mandatory = True, allow_single_file = True)},
    environ = _ENVIRON,
)
