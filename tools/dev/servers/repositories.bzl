"""The real servers that tests start, and the programs in Go and JavaScript that tests call, each a pinned repository.

Where they come from, and what happens when one cannot be had: docs/decisions/0010-real-servers-for-tests.md.
"""

load("//tools/debian:debian.bzl", "debian_packages")
load("//tools/go:go.bzl", "go_programs")
load("//tools/maven:java.bzl", "java_runtime", "maven_client")
load("//tools/maven:maven.bzl", "maven_jars")
load("//tools/npm:npm.bzl", "npm_packages")
load(":policy.bzl", "server_policy")

def server_repositories():
    """Declares the repository of each server, @go_tools, and what they are made with."""
    server_policy(name = "server_policy")

    java_runtime(
        name = "java_runtime",
        lock = "//tools/debian:locks/java.lock",
    )
    maven_client(
        name = "maven_client",
        lock = "//tools/debian:locks/maven.lock",
    )
    maven_jars(
        name = "cassandra_jars",
        lock = "//tools/maven:locks/cassandra.lock",
    )
    maven_jars(
        name = "kafka_jars",
        lock = "//tools/maven:locks/kafka.lock",
    )

    debian_packages(
        name = "mediawiki_server",
        lock = "//tools/debian:locks/mediawiki.lock",
    )
    debian_packages(
        name = "redis_server",
        lock = "//tools/debian:locks/redis.lock",
    )
    debian_packages(
        name = "varnish_server",
        lock = "//tools/debian:locks/varnish.lock",
    )

    npm_packages(
        name = "restbase_suite",
        lock = "//tests/restbase:package-lock.json",
        manifest = "//tests/restbase:package.json",
    )

    go_programs(
        name = "go_tools",
        sources = [
            "//tools/go:cmd/judge/history.go",
            "//tools/go:cmd/judge/main.go",
            "//tools/go:cmd/judge/model.go",
            "//tools/go:cmd/judge/verdict.go",
            "//tools/go:cmd/ycsb/main.go",
            "//tools/go:cmd/ycsb/storage.go",
            "//tools/go:cmd/ycsb/wire.go",
        ],
        tools = {
            "buildifier": "github.com/bazelbuild/buildtools/buildifier",
            "judge": "./cmd/judge",
            "ycsb": "./cmd/ycsb",
        },
    )
