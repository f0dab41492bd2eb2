# The geo-redundant variant of the quickstart: two controllers that are peers, and six subclouds of
# one group that is shared between them. Sourced by deploy/quickstart, not run.
# shellcheck shell=bash

readonly GEO_SITES=(a b)
readonly GEO_SUBCLOUDS=(subcloud-1 subcloud-2 subcloud-3 subcloud-4 subcloud-5 subcloud-6)
readonly GEO_GROUP=shared
# Short, so that the move can be watched; the default failover time is 45 s.
readonly GEO_HEARTBEAT_MILLISECONDS=1000 GEO_FAILOVER_MILLISECONDS=8000
readonly GEO_MOVE_SECONDS=60

up_geo() {
    begin_up
    local since=${EPOCHREALTIME/./} index=0 name
    step "A router for the sites" "$LAB" up "$NETWORK"
    for name in "${GEO_SITES[@]}"; do
        step "controller-$name: its state, certificates and network" start_geo_controller \
            "$name" $((++index))
    done
    step "The two controllers are peers: a token of A, redeemed at B" make_peers
    for name in "${GEO_SUBCLOUDS[@]}"; do
        step "$name: enrolled at controller-a, started" join_geo "$name" $((++index))
    done
    step "One group of all six, shared with B" share_group
    step "Both sites agree" wait_until_shared
    trap - EXIT INT TERM
    printf '\n'
    show_geo
    printf '\n%s\n' "Started in $(seconds_since "$since") s. Logs: $LOGS"
    printf '\nTry next:\n'
    say "  ${TANDEM_LAB_DIR:+TANDEM_LAB_DIR=$STATE }$REPOSITORY/deploy/quickstart fail-site A"
    say "  TANDEM_ENDPOINT=unix:$STATE/controller-b/operator.sock $PROGRAMS/tandem dcmanager" \
        "subcloud-peer-group list-subclouds $GEO_GROUP"
    say "  ${TANDEM_LAB_DIR:+TANDEM_LAB_DIR=$STATE }$REPOSITORY/deploy/quickstart down"
}

# Cuts a site off and shows its subclouds turn up at the other one.
fail_site() {
    local site other since
    choose_site "${1:-}"
    find_programs
    "$LAB" cut "$NETWORK" "controller-$site"
    since=${EPOCHREALTIME/./}
    say "controller-$site is cut off. Its subclouds, as controller-$other sees them:"
    follow_move "$other" "$since"
    printf '\n'
    geo_tandem "$other" dcmanager subcloud-peer-group list-subclouds "$GEO_GROUP" \
        -c name -c owner -c epoch -c availability
    geo_tandem "$other" system alarm-list -c alarm_id -c severity -c reason_text
    printf '\nTry next:\n'
    say "  ${TANDEM_LAB_DIR:+TANDEM_LAB_DIR=$STATE }$REPOSITORY/deploy/quickstart" \
        "restore-site ${site^^}"
}

# Ends the cut and shows that the returning site takes nothing by itself.
restore_site() {
    local site other deadline=$((SECONDS + GEO_MOVE_SECONDS))
    choose_site "${1:-}"
    find_programs
    "$LAB" restore "$NETWORK" "controller-$site"
    say "controller-$site is back. What it says once it has heard of the new owner:"
    until geo_tandem "$site" system alarm-list -f value -c alarm_id | grep -qx 280.005; do
        ((SECONDS < deadline)) || stop 1 "controller-$site has not learned of the new leader"
        sleep 0.2
    done
    geo_tandem "$site" dcmanager subcloud-peer-group list-subclouds "$GEO_GROUP" \
        -c name -c owner -c epoch -c availability
    geo_tandem "$site" system alarm-list -c alarm_id -c severity -c reason_text
    printf '\nTry next:\n'
    say "  TANDEM_ENDPOINT=unix:$STATE/controller-$site/operator.sock $PROGRAMS/tandem dcmanager" \
        "subcloud-peer-group migrate $GEO_GROUP --wait"
}

# ---- steps -------------------------------------------------------------------------------------

start_geo_controller() {
    local name=controller-$1 index=$2
    geo_bootstrap "$name" systemcontroller "$index" management >"$STATE/$name.yaml"
    "$PROGRAMS/system-controller" init --bootstrap "$STATE/$name.yaml" --state-dir "$STATE/$name"
    cat >"$STATE/$name.toml" <<TEXT
heartbeat_interval_milliseconds = $GEO_HEARTBEAT_MILLISECONDS
failover_milliseconds = $GEO_FAILOVER_MILLISECONDS
TEXT
    "$LAB" site "$NETWORK" "$name" "fd0a:$index::2/64" "fd0a:$index:1::3/64"
    serve "$name" system-controller --config "$STATE/$name.toml"
}

make_peers() {
    local settings=(--heartbeat-interval 1 --heartbeat-failure-threshold 3
        --heartbeat-failure-policy rehome)
    geo_tandem a dcmanager system-peer add controller-b "${settings[@]}" -f value -c token \
        >"$STATE/peering.token"
    geo_tandem b dcmanager system-peer add controller-a "${settings[@]}" \
        --token-file "$STATE/peering.token"
    rm "$STATE/peering.token"
}

join_geo() {
    local name=$1 index=$2
    geo_bootstrap "$name" subcloud "$index" admin >"$STATE/$name.yaml"
    "$PROGRAMS/subcloud-agent" init --bootstrap "$STATE/$name.yaml" --state-dir "$STATE/$name"
    "$LAB" site "$NETWORK" "$name" "fd0a:$index::2/64" "fd0a:$index:1::3/64"
    geo_tandem a dcmanager subcloud add "$name" --bootstrap-values "$STATE/$name.yaml" \
        -f value -c token -c controller >"$STATE/$name.enrollment"
    enroll "$name"
    serve "$name" subcloud-agent
}

share_group() {
    geo_tandem a dcmanager subcloud-peer-group add "$GEO_GROUP" --group-priority 0
    geo_tandem a dcmanager subcloud-peer-group add-subclouds "$GEO_GROUP" "${GEO_SUBCLOUDS[@]}"
    geo_tandem a dcmanager peer-group-association add "$GEO_GROUP" controller-b \
        --peer-group-priority 1
}

wait_until_shared() {
    local deadline=$((SECONDS + DEADLINE_SECONDS)) site state
    for site in "${GEO_SITES[@]}"; do
        until state=$(geo_tandem "$site" dcmanager peer-group-association list -f value -c state) &&
            [[ $state == in-sync ]]; do
            ((SECONDS < deadline)) || fail "controller-$site says: $state"
            sleep 0.05
        done
    done
    until (($(owned_and_online a | wc -l) == ${#GEO_SUBCLOUDS[@]})); do
        ((SECONDS < deadline)) || fail "not all subclouds are online"
        sleep 0.05
    done
}

# A bootstrap file: NAME, role, the number in its addresses, and the network that is its link.
geo_bootstrap() {
    local name=$1 role=$2 index=$3 link=$4
    cat <<TEXT
name: $name
system_mode: simplex
distributed_cloud_role: $role
software_version: "24.09"
${link}_subnet: fd0a:$index::/64
${link}_gateway_address: fd0a:$index::1
${link}_start_address: fd0a:$index::2
${link}_end_address: fd0a:$index::ffff
external_oam_subnet: fd0a:$index:1::/64
external_oam_gateway_address: fd0a:$index:1::1
external_oam_floating_address: fd0a:$index:1::3
cluster_host_subnet: fd0a:$index:2::/64
cluster_pod_subnet: fd0a:$index:3::/64
cluster_service_subnet: fd0a:$index:4::/112
TEXT
    [[ $link == management ]] || echo "management_subnet: fd0a:$index:5::/64"
}

# ---- what is shown -----------------------------------------------------------------------------

geo_tandem() {
    local site=$1
    shift
    "$PROGRAMS/tandem" --endpoint "unix:$STATE/controller-$site/operator.sock" "$@"
}

# Sets `site` and `other` from A or B.
choose_site() {
    case ${1,,} in
        a) site=a other=b ;;
        b) site=b other=a ;;
        *) stop 64 "name the site: A or B" ;;
    esac
    [[ -S $STATE/controller-b/operator.sock ]] ||
        stop 69 "no two sites run in $STATE; start them: deploy/quickstart --geo"
}

# The names of the subclouds that obey a site and are online there.
owned_and_online() {
    geo_tandem "$1" dcmanager subcloud-peer-group list-subclouds "$GEO_GROUP" -f value \
        -c name -c owned_here -c availability | awk '$2 == "True" && $3 == "online" {print $1}'
}

# A line whenever more have come, until all are there.
follow_move() {
    local site=$1 since=$2 deadline=$((SECONDS + GEO_MOVE_SECONDS)) here=() before=-1
    until ((${#here[@]} == ${#GEO_SUBCLOUDS[@]})); do
        ((SECONDS < deadline)) || stop 1 "not all have come after $GEO_MOVE_SECONDS s"
        mapfile -t here < <(owned_and_online "$site")
        if ((${#here[@]} != before)); then
            before=${#here[@]}
            say "$(printf '  %6s s  %d of %d' "$(seconds_since "$since")" "$before" \
                "${#GEO_SUBCLOUDS[@]}")${here[*]:+  ${here[*]}}"
        fi
        sleep 0.2
    done
}

show_geo() {
    local site
    for site in "${GEO_SITES[@]}"; do
        printf 'As controller-%s sees it:\n' "$site"
        geo_tandem "$site" dcmanager system-peer list -c name -c family -c peering \
            -c availability -c failure_policy
        geo_tandem "$site" dcmanager subcloud-peer-group list-subclouds "$GEO_GROUP" \
            -c name -c owner -c epoch -c availability
    done
}
