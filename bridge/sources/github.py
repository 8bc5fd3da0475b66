"""GitHub: repository, organization and app webhooks.

Source of the rules: https://docs.github.com/webhooks (validating deliveries, events and payloads).
"""

from __future__ import annotations

from bridge.core.event import JSON, Request
from bridge.sources.base.bodies import JsonBody, JsonForm
from bridge.sources.base.event_mismatch import Markers
from bridge.sources.base.guide import Guide
from bridge.sources.base.known_fields import (
    ANY,
    BOOLEAN,
    BRANCH,
    FILES,
    NAME,
    OWNED,
    REF,
    fields,
    keyed,
    names,
)
from bridge.sources.base.proofs import HmacSignature
from bridge.sources.base.source_type import ParsedWebhook, SourceType, required_headers, text_at

_USER = fields(
    """
    avatar_url deleted email events_url followers_url following_url gists_url gravatar_id html_url id login
    name node_id organizations_url received_events_url repos_url site_admin starred_at starred_url
    subscriptions_url type url user_view_type
    """
)
_REPOSITORY = fields(
    """
    allow_auto_merge allow_forking allow_merge_commit allow_rebase_merge allow_squash_merge
    allow_update_branch anonymous_access_enabled archive_url archived assignees_url blobs_url branches_url
    clone_url code_search_index_status collaborators_url comments_url commits_url compare_url contents_url
    contributors_url created_at custom_properties default_branch delete_branch_on_merge deployments_url
    description disabled downloads_url events_url fork forks forks_count forks_url full_name git_commits_url
    git_refs_url git_tags_url git_url has_discussions has_downloads has_issues has_pages has_projects has_wiki
    homepage hooks_url html_url id is_template issue_comment_url issue_events_url issues_url keys_url
    labels_url language languages_url license master_branch merge_commit_message merge_commit_title merges_url
    milestones_url mirror_url name network_count node_id notifications_url open_issues open_issues_count
    organization permissions private public pull_request_creation_policy pulls_url pushed_at releases_url
    role_name security_and_analysis size squash_merge_commit_message squash_merge_commit_title ssh_url
    stargazers stargazers_count stargazers_url starred_at statuses_url subscribers_count subscribers_url
    subscription_url svn_url tags_url teams_url temp_clone_token topics trees_url updated_at url
    use_squash_pr_title_as_default visibility watchers watchers_count web_commit_signoff_required
    """,
    owner=_USER, full_name=OWNED, name=NAME, default_branch=BRANCH,
)  # fmt: skip
_PERSON = fields("name email username date")
_COMMIT = fields("id tree_id distinct message timestamp url", author=_PERSON, committer=_PERSON, **FILES)
_LABEL = fields("id node_id url name color default description")
_MILESTONE = fields("title *")
#: Fields of an issue or a pull request, and of the events about it.
_LABELED = {"label": _LABEL, "milestone": _MILESTONE, "assignee": _USER}
_BRANCH = fields("label sha", ref=BRANCH, user=_USER, repo=_REPOSITORY)
#: Fields of every event.
_ALL = fields("installation enterprise organization", repository=_REPOSITORY, sender=_USER)
_CONCLUSION = names(
    "success failure neutral cancelled skipped timed_out action_required stale startup_failure"
)  # fmt: skip
_RUN = {ANY: None, "conclusion": _CONCLUSION}
_DEPLOYMENT_STATE = names("error failure inactive in_progress pending queued success waiting")
_REVIEW_STATE = names("approved changes_requested commented dismissed pending")
#: By event, https://docs.github.com/webhooks/webhook-events-and-payloads
_ACTIONS = keyed(
    """
    check_run(created completed rerequested requested_action) check_suite(completed requested rerequested)
    issue_comment(created deleted edited pinned unpinned) issues(assigned closed deleted demilestoned edited
    field_added field_removed labeled locked milestoned opened pinned reopened transferred typed unassigned
    unlabeled unlocked unpinned untyped) pull_request(assigned auto_merge_disabled auto_merge_enabled closed
    converted_to_draft demilestoned dequeued edited enqueued labeled locked milestoned opened ready_for_review
    reopened review_request_removed review_requested synchronize unassigned unlabeled unlocked)
    pull_request_review(dismissed edited submitted) push() release(created deleted edited prereleased
    published released unpublished) workflow_job(queued in_progress completed waiting) workflow_run(requested
    in_progress completed)
    """
)
#: By event, the fields of all its actions.
_FIELDS = {
    **{event: fields("*", ref=BRANCH, **_ALL) for event in ("create", "delete")},
    "push": fields(
        "before after base_ref compare", created=BOOLEAN, deleted=BOOLEAN, forced=BOOLEAN, ref=REF,
        commits=[_COMMIT], head_commit=_COMMIT, pusher=_PERSON, **_ALL,
    ),
    "pull_request": fields(
        "after before changes number reason requested_reviewer requested_team",
        action=_ACTIONS["pull_request"],
        pull_request=fields(
            """
            _links active_lock_reason additions assignee author_association auto_merge body changed_files
            closed_at comments comments_url commits commits_url created_at deletions diff_url html_url id
            issue_url locked maintainer_can_modify merge_commit_sha mergeable mergeable_state merged_at
            merged_by node_id number patch_url performed_via_github_app rebaseable review_comment_url
            review_comments review_comments_url statuses_url title updated_at url
            """,
            draft=BOOLEAN, merged=BOOLEAN, state=("open", "closed"), user=_USER, head=_BRANCH, base=_BRANCH,
            assignees=[_USER], labels=[_LABEL], milestone=_MILESTONE, requested_reviewers=[_USER],
            requested_teams=[None],
        ), **_LABELED, **_ALL,
    ),
    "issues": fields(
        "changes type performed_via_github_app", action=_ACTIONS["issues"],
        issue=fields(
            """
            active_lock_reason assignee author_association body closed_at closed_by comments comments_url
            created_at draft events_url html_url id issue_dependencies_summary issue_field_values labels_url
            locked node_id number parent_issue_url performed_via_github_app pull_request reactions
            repository_url state state_reason sub_issues_summary timeline_url title type updated_at url
            """,
            user=_USER, assignees=[_USER], labels=[_LABEL], milestone=_MILESTONE,
        ), **_LABELED, **_ALL,
    ),
    "release": fields(
        "changes", action=_ACTIONS["release"],
        release=fields(
            """
            assets_url body created_at discussion_url draft html_url id immutable
            is_short_description_html_truncated mentions_count name node_id prerelease published_at reactions
            short_description_html tarball_url target_commitish updated_at upload_url url zipball_url
            """,
            tag_name=BRANCH, author=_USER, assets=[None],
        ), **_ALL,
    ),
    "workflow_run": fields(
        "", action=_ACTIONS["workflow_run"], workflow=fields("name *"),
        workflow_run=fields(
            """
            artifacts_url cancel_url check_suite_id check_suite_node_id check_suite_url created_at
            display_title event head_sha html_url id jobs_url logs_url name node_id path previous_attempt_url
            referenced_workflows rerun_url run_attempt run_number run_started_at updated_at url workflow_id
            workflow_url
            """,
            status=names("requested queued in_progress completed waiting pending"), conclusion=_CONCLUSION,
            head_branch=BRANCH, actor=_USER, triggering_actor=_USER, head_commit=_COMMIT, repository=None,
            head_repository=None, pull_requests=[None],
        ), **_ALL,
    ),
    "check_run": fields("*", action=_ACTIONS["check_run"], check_run=_RUN, **_ALL),
    "check_suite": fields("*", action=_ACTIONS["check_suite"], check_suite=_RUN, **_ALL),
    "workflow_job": fields("*", workflow_job=_RUN, **_ALL),
    "deployment_status": fields(
        "* deployment", deployment_status=fields("*", state=_DEPLOYMENT_STATE), **_ALL
    ),
    "status": fields("* sha", state=names("error failure pending success"), **_ALL),
    "pull_request_review": fields("* pull_request", review=fields("*", state=_REVIEW_STATE), **_ALL),
}  # fmt: skip

#: Where an event happened. An event of an organization or enterprise has no `repository`.
_CONTEXT = ("enterprise", "organization", "repository")
#: By event, fields that only some of its bodies have.
_OPTIONAL = {
    **dict.fromkeys(names("branch_protection_configuration public repository star watch"), _CONTEXT),
    **keyed(
        """
        deployment(workflow workflow_run) deployment_review(workflow_job_run)
        deployment_protection_rule(deployment deployment_callback_url enterprise organization repository)
        deployment_status(check_run workflow workflow_run) discussion(answer label) enterprise(enterprise)
        installation_repositories(installation.account) issues(assignee label milestone)
        organization(enterprise invitation membership user) pull_request(assignee label milestone)
        secret_scanning_alert_location(alert.secret_type) user(enterprise user) workflow_job(deployment)
        sub_issues(parent_issue sub_issue enterprise organization repository)
        """
    ),
}


class GitHub(SourceType):
    """An HMAC over the raw body in ``X-Hub-Signature-256``; the older SHA-1 alone is rejected.

    The signature covers no header, so the body must fit the event in ``X-GitHub-Event``.
    """

    name = "github"
    guide = Guide(
        title="GitHub",
        setup="""
            Open Repository, organization or app → Settings → Webhooks → Add webhook. Set *Payload URL* to
            the source's URL, *Content type* to `application/json` (a form also works) and *Secret* to the
            secret. Select the events that your routes name.
        """,
        route="""
            event: push
            match:
              payload.ref: refs/heads/main
            task_arguments:
              - ${{ payload.after }}
        """,
    )
    proofs = (HmacSignature("X-Hub-Signature-256", "sha256", "sha256="),)
    credential_headers = ("X-Hub-Signature",)
    event_header = "X-GitHub-Event"
    id_header = "X-GitHub-Delivery"
    replayable = True
    setup_events = ("ping",)
    bodies = (JsonBody(), JsonForm("payload"))
    events = keyed(
        """
        branch_protection_configuration(action repository) branch_protection_rule(action rule)
        cache_sync(ref before after cache_location) check_run(action check_run)
        check_suite(action check_suite) code_scanning_alert(action alert.rule) commit_comment(action comment)
        content_reference(action content_reference) create(ref ref_type master_branch)
        custom_property(action definition) custom_property_values(action new_property_values)
        delete(ref ref_type) dependabot_alert(action alert.dependency) deploy_key(action key)
        deployment(deployment) deployment_protection_rule(action) deployment_review(action since workflow_run)
        deployment_status(deployment deployment_status) discussion(action discussion)
        discussion_comment(action discussion comment) enterprise(action) fork(forkee)
        github_app_authorization(action) gollum(pages) installation(action installation.account)
        installation_repositories(action installation repositories_added)
        installation_target(action account target_type) issue_comment(action issue comment)
        issue_dependencies(action blocked_issue blocking_issue) issues(action issue) label(action label)
        marketplace_purchase(action marketplace_purchase) member(action member) membership(action member team)
        merge_group(action merge_group) meta(action hook hook_id) milestone(action milestone)
        org_block(action blocked_user) organization(action organization) package(action package)
        page_build(build) personal_access_token_request(action personal_access_token_request)
        ping(zen hook_id) project(action project) project_card(action project_card)
        project_column(action project_column) projects_v2(action projects_v2)
        projects_v2_item(action projects_v2_item) projects_v2_status_update(action projects_v2_status_update)
        public(repository) pull_request(action number pull_request)
        pull_request_review(action pull_request review)
        pull_request_review_comment(action pull_request comment)
        pull_request_review_thread(action pull_request thread) push(ref before after)
        registry_package(action registry_package) release(action release) repository(action repository)
        repository_advisory(action repository_advisory) repository_dispatch(action branch)
        repository_import(status) repository_ruleset(action repository_ruleset)
        repository_vulnerability_alert(action alert.affected_range)
        secret_scanning_alert(action alert.secret_type) secret_scanning_alert_location(alert location)
        secret_scanning_scan(action source type) security_advisory(action security_advisory)
        security_and_analysis(changes.from repository) sponsorship(action sponsorship)
        star(action repository starred_at) status(sha state) sub_issues(action) team(action team)
        team_add(team repository) user(action) watch(action repository) workflow_dispatch(ref workflow)
        workflow_job(action workflow_job) workflow_run(action workflow_run)
        """
    )
    retired_events = (
        "content_reference", "project", "project_card", "project_column", "repository_vulnerability_alert",
    )  # fmt: skip
    markers = Markers(context=_CONTEXT, optional=_OPTIONAL)
    fields = _FIELDS
    actions = _ACTIONS

    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        event, delivery = required_headers(request, "X-GitHub-Event", "X-GitHub-Delivery")
        return ParsedWebhook(event, text_at(payload, "action"), delivery)
