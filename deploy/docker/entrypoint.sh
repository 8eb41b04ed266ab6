#!/bin/sh
# Secrets come as files, as Docker and Kubernetes mount them. Before the command starts:
#   FILE__NAME=/run/secrets/x   the variable NAME gets the content of the file
#   PRIVATE_FILES="/a /b"       a copy of each, mode 0600, in /run/sifwatch: our programs refuse a key file that
#                               others can read, and a mounted secret often can be
set -eu
# evidence bundles and the store are the container's user's alone
umask 077

for assignment in $(env | sed -n 's/^FILE__\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'); do
    eval "path=\${FILE__${assignment}}"
    if [ ! -r "$path" ]; then
        echo "sif-entrypoint: FILE__${assignment}: $path cannot be read by uid $(id -u)" >&2
        exit 2
    fi
    value=$(cat "$path")
    export "${assignment}=${value}"
    unset "FILE__${assignment}" value
done

copied=" "
for path in ${PRIVATE_FILES:-}; do
    name=${path##*/}
    case $copied in
    *" $name "*)
        echo "sif-entrypoint: PRIVATE_FILES: two files are named $name" >&2
        exit 2
        ;;
    esac
    copied="$copied$name "
    if ! cp "$path" "${PRIVATE_DIRECTORY:-/run/sifwatch}/"; then
        echo "sif-entrypoint: PRIVATE_FILES: $path cannot be copied by uid $(id -u)" >&2
        exit 2
    fi
    chmod 0600 "${PRIVATE_DIRECTORY:-/run/sifwatch}/$name"
done

exec "$@"
