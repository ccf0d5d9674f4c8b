#!/usr/bin/env bash
# Makes build/qemu/registry on the host: the storage of a registry that holds the tests' images. In
# the emulated machine building and pushing them would take longer than many a test.
#   tests/qemu/make_registry.sh FOLDER-OF-PROGRAMS
source tests/integration/lib.sh "$@"
start_registry
push_images
kill "$REGISTRY_PID"
wait "$REGISTRY_PID" || true
mkdir -p build/qemu
rm -rf build/qemu/registry
cp -r "$NODE/registry" build/qemu/registry
