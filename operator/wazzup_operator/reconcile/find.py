"""What a pass finds out about each object of an account."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from wazzup_operator.domain.listing import ListedChannel, Number
from wazzup_operator.domain.reasons import Reason
from wazzup_operator.domain.states import Action, Actor
from wazzup_operator.reconcile.claims import contend, keeper_of
from wazzup_operator.reconcile.finding import Conflict, Finding, Outage, Paused
from wazzup_operator.reconcile.match import Matcher
from wazzup_operator.reconcile.observation import Listed, Unlisted
from wazzup_operator.reconcile.view import AccountView
from wazzup_operator.resources.base import NamespacedName, ObjectMeta
from wazzup_operator.resources.channel import WazzupChannel

T = TypeVar("T")

Found = tuple[WazzupChannel, Finding]

STEP = 250
"""How many objects are processed between two yields: a few milliseconds."""

_PAUSED = Paused()


@dataclass(frozen=True, slots=True)
class Failure(Generic[T]):
    """An object that could not be processed because of an unexpected error."""

    object: T
    error: Exception


def in_steps(
    items: Iterable[T], process: Callable[[T], None]
) -> Generator[None, None, list[Failure[T]]]:
    """Process the items and return those that failed, so that one cannot stop the others.

    Yields now and then, so that the caller can let other tasks run.
    """
    failed = []
    for number, item in enumerate(items, 1):
        try:
            process(item)
        except Exception as error:
            failed.append(Failure(item, error))
        if number % STEP == 0:
            yield
    return failed


@dataclass(frozen=True, slots=True)
class Findings:
    """What a pass found, before the claims of other accounts count.

    `findings` are those of `channels`, which omits the objects in `failed`; `fresh` are those that
    this pass looked up. `by_number` and `by_channel_id` hold the object of the account that keeps
    each.
    """

    channels: Sequence[WazzupChannel] = ()
    findings: Sequence[Finding] = ()
    fresh: Sequence[Found] = ()
    by_number: Mapping[Number, WazzupChannel] = field(default_factory=dict)
    by_channel_id: Mapping[str, WazzupChannel] = field(default_factory=dict)
    failed: Sequence[Failure[WazzupChannel]] = ()

    def __iter__(self) -> Iterator[Found]:
        """Yield each object with its finding."""
        return zip(self.channels, self.findings, strict=True)

    def without(self, failed: Sequence[Failure[WazzupChannel]]) -> "Findings":
        """Return these findings without the objects that failed since."""
        if not failed:
            return self
        gone = {each.object.metadata.uid for each in failed}
        kept = [found for found in self if found[0].metadata.uid not in gone]
        return replace(
            self,
            channels=[channel for channel, _ in kept],
            findings=[finding for _, finding in kept],
            failed=[*self.failed, *failed],
        )


def with_each(
    found: Iterable[Found], process: Callable[[Found], None]
) -> Generator[None, None, list[Failure[WazzupChannel]]]:
    """Process objects with their findings, as `in_steps`."""
    failed = yield from in_steps(found, process)
    return [Failure(each.object[0], each.error) for each in failed]


def find(view: AccountView) -> Generator[None, None, Findings]:
    """Find the channel of each object in the listing, or why it has none."""
    finder = _Finder(view)
    yield from in_steps(view.channels, finder.contend)
    failed = yield from in_steps(view.channels, finder.find)
    return Findings(
        finder.channels,
        finder.findings,
        finder.fresh,
        finder.by_number,
        finder.by_channel_id,
        failed,
    )


class _Finder:
    def __init__(self, view: AccountView) -> None:
        self._view = view
        self._rivals = Rivals(view)
        self._matcher: Matcher | None = None
        self._outage: Outage | None = None
        match view.observation:
            case Listed(listing, trust):
                self._matcher = Matcher(listing, trust.missing.keys(), trust.numbers)
            case Unlisted(trouble, stale):
                message = _outage_message(view.key, trouble.reason)
                self._outage = Outage(trouble.reason, message, stale)
        self.channels: list[WazzupChannel] = []
        self.findings: list[Finding] = []
        self.fresh: list[Found] = []
        self.by_number: dict[Number, WazzupChannel] = {}
        self.by_channel_id: dict[str, WazzupChannel] = {}

    def contend(self, channel: WazzupChannel) -> None:
        """Let the object contend for its number with the others of its account."""
        if self.by_number.setdefault(channel.number, channel) is not channel:
            contend(self.by_number, channel.number, channel)

    def find(self, channel: WazzupChannel) -> None:
        """Find the object's channel, and let it contend for that."""
        finding: Finding | None = self._settled(channel)
        if finding is None:
            finding = self._finding(channel)
            self.fresh.append((channel, finding))
        self.channels.append(channel)
        self.findings.append(finding)
        if not isinstance(finding, ListedChannel):
            return
        if self.by_channel_id.setdefault(finding.channel_id, channel) is not channel:
            contend(self.by_channel_id, finding.channel_id, channel)

    def _settled(self, channel: WazzupChannel) -> ListedChannel | None:
        """Return the channel that the last pass found, if it is certain to be found again."""
        settled = self._view.settled.get(channel.metadata.uid)
        if self._matcher is None or settled is None or settled.channel is not channel:
            return None
        finding = settled.finding
        if isinstance(finding, ListedChannel) and self._matcher.keeps(finding):
            return finding if self.by_number[channel.number] is channel else None
        return None

    def _finding(self, channel: WazzupChannel) -> Finding:
        if channel.metadata.paused:
            return _PAUSED
        keeper = self.by_number[channel.number] if self._view.account else channel
        if self._matcher:
            return self._matcher.match(channel) if keeper is channel else duplicate(channel, keeper)
        if self._outage:
            if keeper is channel and not self._outage.stale:
                keeper = self._keeper_of_claimed(channel)
            return self._outage if keeper is channel else duplicate(channel, keeper, self._outage)
        return _PAUSED

    def _keeper_of_claimed(self, channel: WazzupChannel) -> WazzupChannel:
        """Return the object that keeps the channel which this one claims."""
        claimed = self._view.claims.claimed(channel)
        return self._rivals.keeper(claimed, channel) if claimed else channel


class Rivals:
    """The objects of other accounts that claim a channel; they may use keys of one Wazzup account.

    Each channel is settled once per pass, however many objects claim it.
    """

    def __init__(self, view: AccountView) -> None:
        self._view = view
        self._foremost: dict[str, WazzupChannel | None] = {}

    def foremost(self, channel_id: str) -> WazzupChannel | None:
        """Return the rival that keeps the channel if no object of this account does."""
        if channel_id not in self._foremost:
            rivals = self._view.claims.rivals(channel_id, self._view.key)
            self._foremost[channel_id] = keeper_of(rivals) if rivals else None
        return self._foremost[channel_id]

    def keeper(self, channel_id: str, channel: WazzupChannel) -> WazzupChannel:
        """Return the object that keeps the channel: this one or a rival."""
        rival = self.foremost(channel_id)
        return keeper_of((channel, rival)) if rival else channel


def duplicate(
    channel: WazzupChannel, keeper: WazzupChannel, outage: Outage | None = None
) -> Conflict:
    """Return the finding for an object whose channel another object keeps."""
    near = keeper.metadata.namespace == channel.metadata.namespace
    return Conflict(
        Reason.DUPLICATE_PHONE_NUMBER,
        _duplicate_message(channel, keeper.metadata),
        Action(
            Actor.DECLARATION,
            "Delete one of the two objects; this deletes nothing in Wazzup.",
        ),
        permanent=not (near and channel.replaces == keeper.metadata.name),
        outage=outage,
    )


def _duplicate_message(channel: WazzupChannel, keeper: ObjectMeta) -> str:
    older = keeper.creation_timestamp < channel.metadata.creation_timestamp
    if keeper.namespace != channel.metadata.namespace:
        article = "An older" if older else "A"
        return f"{article} WazzupChannel in another namespace declares the same channel."
    article = "The older" if older else "The"
    return f'{article} WazzupChannel "{keeper.name}" declares the same channel.'


def _outage_message(account: NamespacedName, reason: Reason) -> str:
    namespace, name = account
    if reason is Reason.ACCOUNT_NOT_FOUND:
        return (
            f'The WazzupAccount "{name}" does not exist in this namespace. Create it, or correct'
            " spec.accountRef."
        )
    return (
        f'The operator cannot list the WazzupAccount "{name}", so the state of this channel is'
        f" unknown. Run: kubectl -n {namespace} describe wzacc {name}"
    )
