#!/bin/sh
# Stamps for bundles: nothing here changes within one commit but the tree's state.
commit=$(git rev-parse HEAD 2>/dev/null || echo unknown)
if [ -n "$(git status --porcelain 2>/dev/null)" ]; then tree=dirty; else tree=clean; fi
echo "STABLE_GIT_COMMIT $commit"
echo "STABLE_GIT_TREE $tree"
echo "STABLE_VERSION $(git describe --tags --always --match 'v[0-9]*' 2>/dev/null || echo 0.0.0)"
echo "STABLE_COMMIT_EPOCH $(git log -1 --format=%ct 2>/dev/null || echo 0)"
