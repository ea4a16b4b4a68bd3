# For the scripts of this folder: the languages, their tools, and what their chapters say.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
languages="rust js py c ts cpp zig go"

verger="${VERGER:-$root/target/debug/verger}"
[ -x "$verger" ] || cargo build --locked --manifest-path "$root/Cargo.toml" -p verger-cli
PATH="$(dirname "$verger"):$PATH"

tools() {
    case $1 in
    rust) command -v cargo && [ -d "$(rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown" ] ;;
    js | ts) command -v npm ;;
    py | c | cpp | zig | go) command -v python3 ;;
    *) echo "no language is named $1"; exit 2 ;;
    esac >/dev/null
}

# The commands of a language's chapter, as they are written there, with the SDK of this checkout.
commands() {
    local name
    case $1 in rust) name=Rust ;; js) name=JavaScript ;; ts) name=TypeScript ;; py) name=Python ;; cpp) name=C++ ;; *) name=${1^} ;; esac
    awk -v chapter="## $name" '/^## / { here = $0 == chapter } /^```/ { block = here && $0 == "```sh"; next } block' \
        "$root/core/guide/languages.md" >"$2"
    [ -s "$2" ] || { echo "the guide has no commands for $1"; exit 1; }
    if [ "$1" = rust ]; then sed -i "1s|\$| --sdk $root|" "$2"; fi
}

# Runs the commands of a file one after the other in this shell, and shows each.
follow() {
    local command begun
    while read -r command <&3; do
        echo "$ $command"
        begun=$SECONDS
        eval "$command"
        [ $((SECONDS - begun)) -lt 5 ] || echo "  ($((SECONDS - begun)) s)"
    done 3<"$1"
}
