//! Identities: of trees, of invocations within a tree, of functions, of workers, of external promises, of events.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A tree's identity: a UUID version 7, so that keys are ordered by time of creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TreeId(Uuid);

impl TreeId {
    /// A new identity, made from the time and chance.
    #[must_use]
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// The UUID within.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for TreeId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TreeId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// An id that a caller gives to a start, so that starting twice is starting once (SEMANTICS P5): 1 to
/// [`CallerId::MAX_CHARS`] visible ASCII characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallerId(String);

impl CallerId {
    /// The longest id: long enough for a URL or two UUIDs, short enough for an index, a header and a log line.
    pub const MAX_CHARS: usize = 200;

    /// The text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CallerId {
    type Err = CallerIdError;

    fn from_str(text: &str) -> Result<Self, CallerIdError> {
        if text.is_empty() {
            return Err(CallerIdError::Empty);
        }
        if let Some(character) = text.chars().find(|character| !character.is_ascii_graphic()) {
            return Err(CallerIdError::NotVisible(character));
        }
        if text.len() > Self::MAX_CHARS {
            return Err(CallerIdError::TooLong(text.len()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl From<CallerId> for String {
    fn from(id: CallerId) -> Self {
        id.0
    }
}

impl fmt::Display for CallerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a caller's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerIdError {
    /// It is empty.
    Empty,
    /// It has too many characters: this many.
    TooLong(usize),
    /// It has this character, which is not visible ASCII.
    NotVisible(char),
}

impl std::error::Error for CallerIdError {}

impl fmt::Display for CallerIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an id has 1 to {} visible ASCII characters; ", CallerId::MAX_CHARS)?;
        match self {
            Self::Empty => f.write_str("this one is empty"),
            Self::TooLong(characters) => write!(f, "this one has {characters}"),
            Self::NotVisible(character) => write!(f, "this one has {character:?}"),
        }
    }
}

/// A version of a function, `name@version`: what workers offer, what a tree needs, how errors name a function.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FunctionVersion {
    name: String,
    version: u32,
}

impl FunctionVersion {
    /// The version of a function.
    #[must_use]
    pub fn new(name: impl Into<String>, version: u32) -> Self {
        Self { name: name.into(), version }
    }

    /// The function's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }
}

impl fmt::Display for FunctionVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

impl FromStr for FunctionVersion {
    type Err = FunctionVersionError;

    fn from_str(text: &str) -> Result<Self, FunctionVersionError> {
        // A name has no `@`; even if one had, the last `@` would be the separator.
        let (name, version) = text.rsplit_once('@').ok_or(FunctionVersionError)?;
        // Only the text that is written here: `f@01` would be a second text of `f@1`.
        let number: u32 = version.parse().map_err(|_| FunctionVersionError)?;
        if name.is_empty() || number.to_string() != version {
            return Err(FunctionVersionError);
        }
        Ok(Self::new(name, number))
    }
}

/// A text is not a version of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a version of a function, as `name@version`")]
pub struct FunctionVersionError;

/// A worker's identity: of one engine, from its launch to its end. It is never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub i64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker-{}", self.0)
    }
}

/// A process that has workers, as its machine knows it. It is chosen at random by the process, and never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProcessId(pub Uuid);

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of an operation in its function's program order, counted from 0.
pub type Position = u32;

/// From here on positions are those of what undoes an operation: below it stand the round and the operation's position.
const UNDO: Position = 1 << 31;

/// The bits of a position that name the operation which is undone. No function has so many operations: an entry each would
/// take gigabytes.
const UNDONE_BITS: u32 = 24;
const UNDONE: Position = (1 << UNDONE_BITS) - 1;

/// An invocation's identity within its tree: the positions from the root down to it.
///
/// The root is the empty path; the child called at position 3 of the root is `/3`, a child of that at position 0 is
/// `/3/0`. A path comes from program order alone: no clock, no random, no process takes part (SEMANTICS R1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Path(Vec<Position>);

impl Path {
    /// The root of a tree.
    #[must_use]
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The child called at `position`.
    #[must_use]
    pub fn child(&self, position: Position) -> Self {
        let mut positions = Vec::with_capacity(self.0.len() + 1);
        positions.extend_from_slice(&self.0);
        positions.push(position);
        Self(positions)
    }

    /// The most rounds in which one operation is undone.
    pub const MAX_ROUNDS: u32 = 1 << (31 - UNDONE_BITS);

    /// The invocation that undoes what was done at `position` of this one, in the first round. It is written `~3` where a
    /// child is written `3`.
    #[must_use]
    pub fn undo(&self, position: Position) -> Self {
        self.child(UNDO | position)
    }

    /// The position that this invocation undoes; `None` if it is a call or the root.
    #[must_use]
    pub fn undoes(&self) -> Option<Position> {
        self.position().filter(|position| *position >= UNDO).map(|position| position & UNDONE)
    }

    /// Which time the operation is undone by this invocation, counted from 1; `None` if it undoes none.
    #[must_use]
    pub fn undo_round(&self) -> Option<u32> {
        self.position().filter(|position| *position >= UNDO).map(|position| round(position - UNDO))
    }

    /// The invocation that undoes the same in the next round, because this one failed. The second round is written `~3.2`.
    /// `None` after the last round, or if it undoes nothing.
    #[must_use]
    pub fn undo_again(&self) -> Option<Self> {
        let position = self.position().filter(|_| self.undo_round().is_some_and(|round| round < Self::MAX_ROUNDS))?;
        Some(self.parent()?.child(position + (1 << UNDONE_BITS)))
    }

    /// The same place in the first rounds: what undoes an operation does the same in whichever round.
    #[must_use]
    pub fn without_rounds(&self) -> Self {
        let first = |position: &Position| if *position < UNDO { *position } else { UNDO | position & UNDONE };
        Self(self.0.iter().map(first).collect())
    }

    /// The caller; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }

    /// The position in the caller at which this invocation was called; `None` for the root.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.0.last().copied()
    }

    /// Whether this is the same invocation, or one that it stands below.
    #[must_use]
    pub fn is_at_or_above(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// Whether it undoes something that was done at `above` or below it, or stands below such an invocation.
    #[must_use]
    pub fn undoes_below(&self, above: &Self) -> bool {
        self.0.get(above.0.len()..).is_some_and(|below| below.iter().any(|position| *position >= UNDO))
    }

    /// Levels below the root; 0 for the root.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.0.len()
    }

    /// The stored form: the depth in one byte, then each position in four, big-endian.
    ///
    /// The bytes sort by depth first, so the direct children of one invocation are one contiguous range
    /// ([`Self::children_range`]) however large the subtrees below them are (R11).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + 4 * self.0.len());
        bytes.push(u8::try_from(self.0.len()).unwrap_or(u8::MAX));
        for position in &self.0 {
            bytes.extend_from_slice(&position.to_be_bytes());
        }
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`PathError`] if the bytes are not what [`Self::to_bytes`] writes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PathError> {
        let (depth, rest) = bytes.split_first().ok_or(PathError)?;
        if rest.len() != 4 * usize::from(*depth) {
            return Err(PathError);
        }
        let positions = rest.chunks_exact(4).map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]));
        Ok(Self(positions.collect()))
    }

    /// The first and the last stored form a direct child can have; both inclusive.
    #[must_use]
    pub fn children_range(&self) -> (Vec<u8>, Vec<u8>) {
        (self.child(0).to_bytes(), self.child(Position::MAX).to_bytes())
    }

    /// The first and the last stored form that an invocation can have; both inclusive.
    #[must_use]
    pub fn every_range() -> (Vec<u8>, Vec<u8>) {
        (Self::root().to_bytes(), vec![u8::MAX; 1 + 4 * usize::from(u8::MAX)])
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        self.0.iter().try_for_each(|position| match position.checked_sub(UNDO) {
            Some(undo) if round(undo) > 1 => write!(f, "/~{}.{}", undo & UNDONE, round(undo)),
            Some(undone) => write!(f, "/~{undone}"),
            None => write!(f, "/{position}"),
        })
    }
}

/// The round of an undo, of its position without the bit that marks it.
const fn round(undo: Position) -> u32 {
    (undo >> UNDONE_BITS) + 1
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let rest = text.strip_prefix('/').ok_or(PathError)?;
        if rest.is_empty() {
            return Ok(Self::root());
        }
        // Only what is written: a sign or a zero in front would be a second name of the same invocation.
        let number = |part: &str, end: u32| part.parse().ok().filter(|n: &u32| *n < end && n.to_string() == part);
        let undo = |part: &str| match part.split_once('.') {
            None => Some(UNDO | number(part, UNDONE + 1)?),
            Some((undone, round)) => {
                let round = number(round, Self::MAX_ROUNDS + 1).filter(|round| *round > 1)?;
                Some(UNDO | (round - 1) << UNDONE_BITS | number(undone, UNDONE + 1)?)
            }
        };
        let position = |part: &str| part.strip_prefix('~').map_or_else(|| number(part, UNDO), undo);
        let path: Vec<Position> = rest.split('/').map(position).collect::<Option<_>>().ok_or(PathError)?;
        if path.len() > usize::from(u8::MAX) { Err(PathError) } else { Ok(Self(path)) }
    }
}

impl From<Vec<Position>> for Path {
    fn from(positions: Vec<Position>) -> Self {
        Self(positions)
    }
}

/// A text, or bytes, are not a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the path of an invocation")]
pub struct PathError;

/// A promise's identity, as a text that a link or a message can have: tree, path and name, such as
/// `01980a4e-…~.3.0~approval`. It has letters, digits and `-._~` alone, which nothing has to escape.
///
/// # Examples
/// ```
/// use sapwood_core::{Path, PromiseId, TreeId};
///
/// let tree: TreeId = "01980000-0000-7000-8000-000000000001".parse()?;
/// let id = PromiseId { tree, path: Path::root().child(3), name: "approval of Anna".to_owned() };
/// assert_eq!(id.to_string(), "01980000-0000-7000-8000-000000000001~.3~approval.20of.20Anna");
/// assert_eq!(id.to_string().parse(), Ok(id));
/// # Ok::<(), uuid::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PromiseId {
    /// The tree.
    pub tree: TreeId,
    /// The invocation that made it.
    pub path: Path,
    /// The name that the function gave it, unique among those of the invocation.
    pub name: String,
}

impl fmt::Display for PromiseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.to_string().replace('.', "r").replace('/', ".").replace('~', "u");
        write!(f, "{}~{path}~", self.tree)?;
        self.name.bytes().try_for_each(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => write!(f, "{}", char::from(byte)),
            _ => write!(f, ".{byte:02X}"),
        })
    }
}

impl FromStr for PromiseId {
    type Err = PromiseIdError;

    fn from_str(text: &str) -> Result<Self, PromiseIdError> {
        let mut parts = text.splitn(3, '~');
        let mut part = || parts.next().ok_or(PromiseIdError);
        let (tree, path, name) = (part()?, part()?, part()?);
        let tree = tree.parse().map_err(|_| PromiseIdError)?;
        let path = path.replace('.', "/").replace('u', "~").replace('r', ".").parse().map_err(|_| PromiseIdError)?;
        let id = Self { tree, path, name: name_of(name).ok_or(PromiseIdError)? };
        // Only the text that is written here: there is no second text of the same promise.
        if id.to_string() == text { Ok(id) } else { Err(PromiseIdError) }
    }
}

fn name_of(text: &str) -> Option<String> {
    let mut name = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'.' => u8::from_str_radix(std::str::from_utf8(&[bytes.next()?, bytes.next()?]).ok()?, 16).ok()?,
            byte => byte,
        };
        name.push(byte);
    }
    String::from_utf8(name).ok()
}

impl From<PromiseId> for String {
    fn from(id: PromiseId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for PromiseId {
    type Error = PromiseIdError;

    fn try_from(text: String) -> Result<Self, PromiseIdError> {
        text.parse()
    }
}

/// A text is not the id of a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a promise, such as `01980000-0000-7000-8000-000000000001~.3.0~approval`")]
pub struct PromiseIdError;

/// A domain event's identity: unique within its source and the same on every re-execution (SEMANTICS E3).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(String);

impl EventId {
    /// The event emitted at `position` of the invocation at `path`.
    #[must_use]
    pub fn of(tree: TreeId, path: &Path, position: Position) -> Self {
        Self(format!("{tree}:{}", path.child(position)))
    }

    /// The text of the identity.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for EventId {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_survives_its_stored_form() {
        for path in [Path::root(), Path::root().child(0), Path::root().child(7).child(70_000)] {
            assert_eq!(Path::from_bytes(&path.to_bytes()), Ok(path.clone()));
            assert_eq!(path.to_string().parse(), Ok(path));
        }
        assert_eq!(Path::from_bytes(&[1, 0]), Err(PathError));
    }

    /// K2: each round of an undo is an invocation of its own, with one text.
    #[test]
    fn each_round_of_an_undo_has_a_path_of_its_own() {
        let first = Path::root().child(3).undo(7);
        let second = first.undo_again().expect("a second round");
        assert_eq!((first.to_string(), second.to_string()), ("/3/~7".to_owned(), "/3/~7.2".to_owned()));
        assert_eq!(
            [&first, &second].map(|path| (path.undoes(), path.undo_round())),
            [(Some(7), Some(1)), (Some(7), Some(2))]
        );
        let rounds: Vec<Path> = std::iter::successors(Some(first), Path::undo_again).collect();
        assert_eq!(rounds.len() as u32, Path::MAX_ROUNDS);
        for path in rounds {
            assert_eq!(path.parent(), Some(Path::root().child(3)));
            assert_eq!(path.child(1).without_rounds().to_string(), "/3/~7/1");
            assert_eq!(Path::from_bytes(&path.to_bytes()), Ok(path.clone()));
            assert_eq!(path.to_string().parse(), Ok(path));
        }
        assert_eq!(Path::root().child(7).undo_again(), None);
        for text in ["/~7.1", "/~7.0", "/~7.02", "/~7.129", "/~16777216", "/7.2", "/~7.", "/~", "/~.2", "/~7.2.3"] {
            assert_eq!(text.parse::<Path>(), Err(PathError), "{text}");
        }
    }

    #[test]
    fn a_caller_s_id_is_one_to_two_hundred_visible_characters() {
        for id in ["a", "order-42", "~!", &"x".repeat(200)] {
            assert_eq!(id.parse::<CallerId>().map(String::from), Ok(id.to_owned()));
        }
        let wrong = [
            ("", CallerIdError::Empty),
            (" ", CallerIdError::NotVisible(' ')),
            ("a b", CallerIdError::NotVisible(' ')),
            ("a\n", CallerIdError::NotVisible('\n')),
            ("\u{0}", CallerIdError::NotVisible('\u{0}')),
            ("\u{7f}", CallerIdError::NotVisible('\u{7f}')),
            ("é", CallerIdError::NotVisible('é')),
            (&"x".repeat(201), CallerIdError::TooLong(201)),
        ];
        for (text, error) in wrong {
            assert_eq!(text.parse::<CallerId>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_version_of_a_function_survives_its_text_and_has_only_one() {
        for function in [FunctionVersion::new("charge", 1), FunctionVersion::new("a@b", u32::MAX)] {
            assert_eq!(function.to_string().parse(), Ok(function));
        }
        for text in ["", "charge", "@1", "charge@", "charge@01", "charge@+1", "charge@-1", "charge@4294967296"] {
            assert_eq!(text.parse::<FunctionVersion>(), Err(FunctionVersionError), "{text:?}");
        }
    }

    /// E3: events that differ in tree, invocation or position have different identities.
    #[test]
    fn no_two_emits_share_an_identity() {
        let (tree, other) = (TreeId::fresh(), TreeId::fresh());
        let (root, child) = (Path::root(), Path::root().child(3));
        let ids = [
            EventId::of(tree, &root, 3),
            EventId::of(tree, &root, 4),
            EventId::of(tree, &child, 3),
            EventId::of(tree, &child, 4),
            EventId::of(other, &root, 3),
        ];
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        assert_eq!(EventId::of(tree, &child, 3), ids[2]);
    }

    #[test]
    fn the_direct_children_are_one_range_of_stored_forms() {
        let parent = Path::root().child(2);
        let (first, last) = parent.children_range();
        let inside = |path: &Path| (first.clone()..=last.clone()).contains(&path.to_bytes());
        assert!(inside(&parent.child(9)));
        assert!(!inside(&parent));
        assert!(!inside(&parent.child(9).child(0)), "a grandchild");
        assert!(!inside(&Path::root().child(3).child(9)), "a cousin");
    }

    fn promise(path: &str, name: &str) -> PromiseId {
        let tree = "01980000-0000-7000-8000-000000000001".parse().expect("a tree");
        PromiseId { tree, path: path.parse().expect("a path"), name: name.to_owned() }
    }

    #[test]
    fn an_id_survives_its_text_which_nothing_has_to_escape() {
        for path in ["/", "/3/0", "/3/~7", "/3/~7.2/1", "/~16777215.128"] {
            for name in ["approval", "", "a b", "~.~", "é/u\u{10ffff}", "%41", "a.20"] {
                let text = promise(path, name).to_string();
                assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)), "{text}");
                assert_eq!(text.parse(), Ok(promise(path, name)), "{text}");
                assert_eq!(text.matches('~').count(), 2, "{text}");
            }
        }
    }

    #[test]
    fn a_promise_has_one_text_only() {
        let good = promise("/3", "a b").to_string();
        assert_eq!(good, "01980000-0000-7000-8000-000000000001~.3~a.20b");
        let wrong = ["", "~", "~~", "~.~a", "x~.3~a", &good[..36], &good[..38], &good[..good.len() - 2]];
        for text in wrong {
            assert_eq!(text.parse::<PromiseId>(), Err(PromiseIdError), "{text}");
        }
        for (from, to) in
            [("a.20b", "a b"), ("a.20b", ".61.20b"), (".3~", "/3~"), (".3~", "~3~"), (".3~", ".03~"), ("~a", "~.ff")]
        {
            let text = good.replace(from, to);
            assert_eq!(text.parse::<PromiseId>(), Err(PromiseIdError), "{text}");
        }
    }
}
