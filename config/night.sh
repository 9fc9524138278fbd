#!/usr/bin/env bash
# One night of longhaul: runs until the task is done or a person is needed,
# takes the run up again if longhaul was killed, and tells you how it ended.
# While it runs, `notify.command` and `notify.webhook` of longhaul tell you more.
#
#   night.sh PROJECT [arguments of `longhaul run`]
#   night.sh ~/code/parser -- --permission-mode auto
#
# LONGHAUL       the program                            (longhaul on PATH)
# NIGHT_LOGS     where logs and reports go              (~/longhaul-logs)
# NIGHT_NOTIFY   a command, run by `sh -c` with the headline in $HEADLINE and
#                $CODE, and the report on its input     (none)
# NIGHT_RETRIES  how often a killed run is taken up     (3)
# NIGHT_AGAIN    how often another run is begun after one that a usage limit
#                ended (exit code 31); each has budgets of its own    (0)
# NIGHT_PAUSE    seconds before that                    (3600)
#
# Exits with longhaul's own code.
set -uo pipefail

if [ $# -eq 0 ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 64
fi
project=$1
shift
longhaul=${LONGHAUL:-longhaul}
logs=${NIGHT_LOGS:-$HOME/longhaul-logs}
retries=${NIGHT_RETRIES:-3}
again=${NIGHT_AGAIN:-0}
pause=${NIGHT_PAUSE:-3600}
for number in "$retries" "$again" "$pause"; do
    case $number in
    '' | *[!0-9]*)
        echo "night.sh: NIGHT_RETRIES, NIGHT_AGAIN and NIGHT_PAUSE are whole numbers, not '$number'" >&2
        exit 64
        ;;
    esac
done

umask 077
mkdir -p "$logs" || exit 51
stamp=$(date +%Y-%m-%dT%H%M%S)-$(basename "$(realpath -- "$project")")
log=$logs/$stamp.log
report=$logs/$stamp.report.txt

# Runs longhaul once. It gets a process group of its own: what is sent to this
# script is passed on exactly once, since the second signal means "now".
run_once() {
    set -m
    "$longhaul" run --project "$project" "$@" </dev/null >>"$log" 2>&1 &
    local pid=$! interrupted
    set +m
    trap 'interrupted=yes; kill -INT "$pid" 2>/dev/null' INT
    trap 'interrupted=yes; kill -TERM "$pid" 2>/dev/null' TERM
    trap 'interrupted=yes; kill -HUP "$pid" 2>/dev/null' HUP
    while true; do
        interrupted=
        wait "$pid"
        code=$?
        # A wait that a signal cut short says nothing about the run.
        [ -n "$interrupted" ] || break
    done
    trap - INT TERM HUP
}

# Waits between two runs. A signal ends the night, with the code of that signal.
wait_a_while() {
    local pid=
    trap 'code=130; kill $pid 2>/dev/null' INT
    trap 'code=143; kill $pid 2>/dev/null' TERM
    trap 'code=129; kill $pid 2>/dev/null' HUP
    sleep "$pause" &
    pid=$!
    # One that came before there was somebody to end.
    if [ "$code" -eq 31 ]; then wait "$pid"; else kill "$pid" 2>/dev/null; fi
    trap - INT TERM HUP
}

code=0
attempt=0
while true; do
    run_once "$@"
    case $code in
    # Killed (out of memory?) or fallen over: the next run carries on with it.
    70 | 134 | 137 | 139)
        attempt=$((attempt + 1))
        [ "$attempt" -le "$retries" ] || break
        echo "night.sh: longhaul ended with $code; taking the run up again ($attempt of $retries)" >>"$log"
        ;;
    # The limit lasted longer than `limits.max_wait_hours`.
    31)
        [ "$again" -gt 0 ] || break
        again=$((again - 1))
        echo "night.sh: a usage limit holds it up; beginning again in $pause s ($again left)" >>"$log"
        wait_a_while
        [ "$code" -eq 31 ] || break
        ;;
    *) break ;;
    esac
done

case $code in
0) headline="done" ;;
10) headline="needs you" ;;
20) headline="a budget is spent" ;;
21) headline="no progress; look at the task" ;;
30) headline="the login was refused; log in again" ;;
31) headline="a usage limit lasts longer than it may wait; start it again later" ;;
40) headline="another run holds the project" ;;
50) headline="its state cannot be read" ;;
51) headline="the disk is full or failing" ;;
64) headline="wrong arguments or configuration" ;;
126 | 127) headline="$longhaul cannot be started" ;;
129 | 130 | 131 | 143) headline="stopped" ;;
*) headline="ended with exit code $code" ;;
esac
headline="longhaul, $(basename "$(realpath -- "$project")"): $headline"

case $code in
# No run of ours to report on; the log says why.
40 | 64 | 126 | 127) tail -n 20 "$log" >"$report" ;;
*) "$longhaul" report --project "$project" >"$report" 2>&1 ;;
esac

echo "$headline (report: $report)"
if [ -n "${NIGHT_NOTIFY:-}" ]; then
    HEADLINE=$headline CODE=$code sh -c "$NIGHT_NOTIFY" <"$report" || echo "night.sh: the notification failed" >&2
fi
exit "$code"
