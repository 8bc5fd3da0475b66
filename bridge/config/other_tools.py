"""Keys and values of GitHub Actions, Ansible and Alertmanager, and what to write here instead. Pure."""

from __future__ import annotations

from bridge.core.fields import COMBINED_HINT

#: Keys that have another name here.
NAMED_ELSEWHERE = {
    "on": "event", "if": "when", "condition": "when", "key": "secret_key", "cancel-in-progress": "latest",
    "no_log": "sensitive", **dict.fromkeys(("args", "inputs", "params", "with"), "task_arguments"),
}  # fmt: skip

_TASK = "remove it: TheEye runs the task's script; a route names the task and its arguments"
_ORDER = "remove it: no job waits for another's result; to run one at a time write concurrency: {group: …}"
_SENDER = "remove it: set it in Alertmanager, which sends the webhooks"
_TIME = "remove it: a webhook creates its jobs immediately; schedule other tasks in TheEye"

#: Replacements for keys that no key here is named after.
INSTEAD_OF_KEY = {
    "branches": "write match: {payload.ref: refs/heads/main}",
    "tags": "for tags of git, write match: {payload.ref: refs/tags/v*}",
    **dict.fromkeys(("branches-ignore", "tags-ignore"), "write match: {payload.ref: {not: refs/heads/main}}"),
    "paths": "write match: and below it payload.commits[*].{added,modified,removed}[*]: src/*",
    "paths-ignore": "write a condition on payload.commits under when:",
    "types": "write the action after the event, such as event: pull_request.opened",
    "cancel-in-progress": "write concurrency: {group: …, latest: true}",
    **dict.fromkeys(("all", "all_of", "any", "any_of"), COMBINED_HINT),
    **dict.fromkeys(
        ("matchers", "object_matchers", "matcher"), "write match: {payload.commonLabels.severity: critical}"
    ),
    "match_re": "write match: {payload.commonLabels.severity: {regex: '^(critical|page)$'}}",
    "receiver": "write task: for the task that the route runs, and source: for the sender",
    "receivers": "remove it: write task: in each route",
    "continue": "remove it: every route that matches creates jobs, except those with otherwise: true",
    "routes": "write each route as an item of routes:, without routes inside",
    "group_by": "write concurrency: {group: …} to order jobs, or once_key: to drop repeated ones",
    "repeat_interval": "write once_within: 4h",
    **dict.fromkeys(
        ("group_wait", "group_interval", "send_resolved", "max_alerts", "webhook_configs", "inhibit_rules",
         "mute_time_intervals", "active_time_intervals", "time_intervals", "templates"), _SENDER,
    ),
    "for": "remove it: set for: in Prometheus's alert rule",
    **dict.fromkeys(("schedule", "cron"), _TIME),
    **dict.fromkeys(("with_items", "with_list", "for_each", "foreach"), "write loop: payload.alerts"),
    "loop_control": "remove it: the item of a loop is named item, and its number index",
    **dict.fromkeys(("env", "vars", "environment"), "write task_arguments: and the values in TheEye's order"),
    **dict.fromkeys(
        ("retry", "retries", "delay", "until"), "write retry: {for: 24h} under theeye:, for all jobs"
    ),
    **dict.fromkeys(("timeout-minutes", "async", "poll"), "remove it: set the task's time limit in TheEye"),
    **dict.fromkeys(("needs", "depends_on", "register", "notify", "handlers", "listen"), _ORDER),
    **dict.fromkeys(
        ("steps", "run", "runs-on", "uses", "jobs", "hosts", "shell", "command", "script",
         "working-directory", "become", "become_user", "delegate_to", "ignore_errors", "continue-on-error",
         "failed_when", "changed_when", "permissions", "strategy", "matrix", "container", "services",
         "defaults"), _TASK,
    ),
    **dict.fromkeys(
        ("enabled", "disabled", "active"), "remove it; to stop the route for a while, run theeye-bridge pause"
    ),
    **dict.fromkeys(("description", "comment", "summary"), "write it as a comment, after #"),
}  # fmt: skip

#: The same of keys at the top of a table.
INSTEAD_OF_SECTION = {
    "name": "remove it, or write it as a comment, after #",
    "on": "write routes:, with source: and event: in each route",
    "jobs": "write routes:, with task: and task_arguments: in each route",
    "env": "remove it: ${{ env.NAME }} reads the variables of the bridge's process",
    **dict.fromkeys(("handlers", "steps", "hosts", "vars"), _TASK),
    "global": "write theeye: for the address and the customer, and sources: for the senders",
    "receivers": "write tasks:, and in each route source: and task:",
    "rules": "write routes:",
    **dict.fromkeys(("inhibit_rules", "mute_time_intervals", "time_intervals", "templates"), _SENDER),
    "concurrency": "write it in a route",
}

#: Replacements for values that other tools allow, by key and kind of value.
INSTEAD_OF_VALUE = {
    ("event", "a mapping"): "write the name, such as event: push or event: pull_request.opened, and match:",
    ("when", "a list"): "write one text, with and between the conditions",
    ("match", "a list"): "write conditions without dashes, such as payload.ref: x; all of them must match",
    ("match", "text"): "write a field and its value, such as payload.ref: x, or an expression under when:",
    ("concurrency", "text"): "write the text under concurrency: group:",
    ("retry", "text"): "write retry: {for: 24h}",
    ("expect", "text"): "write expect: [{route: a}]",
}
