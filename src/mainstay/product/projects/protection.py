"""Rules for branches and tags of a project. Each function is one transaction."""

from mainstay.access.roles import Role
from mainstay.foundation.errors import Invalid, NotFound
from mainstay.foundation.logs import get_logger
from mainstay.product.accounts.names import check_text
from mainstay.product.accounts.writing import writing
from mainstay.product.projects.models import Project, ProtectedBranch, ProtectedTag

log = get_logger()

_RULES_MAX = 1000
_PUSH_ROLES = frozenset({Role.NONE, Role.DEVELOPER, Role.MAINTAINER, Role.OWNER})


class NoSuchRule(NotFound):
    """No branch or tag rule of this name."""


class BadRule(Invalid):
    """Not a rule that can be kept."""


def protect_branch(
    project: Project,
    pattern: str,
    *,
    push_role: Role = Role.MAINTAINER,
    merge_role: Role = Role.MAINTAINER,
    allow_force: bool = False,
) -> ProtectedBranch:
    """Raises `Taken` when there is a rule for this very pattern."""
    rule = ProtectedBranch(
        project=project,
        pattern=check_text(pattern, what="the name of the protected branch"),
        push_role=_push_role(push_role),
        merge_role=_push_role(merge_role),
        allow_force=allow_force,
    )
    _save(rule, ProtectedBranch.objects.filter(project=project).count(), f"Protected branch '{pattern}'")
    return rule


def protect_tag(project: Project, pattern: str, *, push_role: Role = Role.MAINTAINER) -> ProtectedTag:
    """Raises `Taken` when there is a rule for this very pattern."""
    rule = ProtectedTag(
        project=project,
        pattern=check_text(pattern, what="the name of the protected tag"),
        push_role=_push_role(push_role),
    )
    _save(rule, ProtectedTag.objects.filter(project=project).count(), f"Protected tag '{pattern}'")
    return rule


def set_protected_branch(
    rule: ProtectedBranch,
    *,
    push_role: Role | None = None,
    merge_role: Role | None = None,
    allow_force: bool | None = None,
) -> ProtectedBranch:
    """Change what is given."""
    if push_role is not None:
        rule.push_role = _push_role(push_role)
    if merge_role is not None:
        rule.merge_role = _push_role(merge_role)
    if allow_force is not None:
        rule.allow_force = allow_force
    with writing():
        rule.save()
    return rule


def unprotect(rule: ProtectedBranch | ProtectedTag) -> None:
    """The rule is gone from the next push on."""
    project_id, pattern = rule.project_id, rule.pattern
    with writing():
        rule.delete()
    log.info("projects.rule_removed", project_id=project_id, pattern=pattern)


def protected_branch(project: Project, pattern: str) -> ProtectedBranch:
    """The rule of this very pattern. Raises `NoSuchRule`."""
    rule = ProtectedBranch.objects.filter(project=project, pattern=pattern).first()
    if rule is None:
        raise NoSuchRule(f"no protected branch {pattern[:200]!r}")
    return rule


def protected_tag(project: Project, pattern: str) -> ProtectedTag:
    """The rule of this very pattern. Raises `NoSuchRule`."""
    rule = ProtectedTag.objects.filter(project=project, pattern=pattern).first()
    if rule is None:
        raise NoSuchRule(f"no protected tag {pattern[:200]!r}")
    return rule


def _save(rule: ProtectedBranch | ProtectedTag, rules: int, what: str) -> None:
    if rules >= _RULES_MAX:
        raise BadRule(f"a project has at most {_RULES_MAX} rules of a kind")
    with writing(taken=f"{what} already exists"):
        rule.save(force_insert=True)
    log.info(
        "projects.rule_added", project_id=rule.project_id, pattern=rule.pattern, push_role=rule.push_role
    )


def _push_role(role: Role) -> Role:
    if role not in _PUSH_ROLES:
        raise BadRule(f"{role.name.lower()} cannot push, so a rule cannot let them")
    return role
