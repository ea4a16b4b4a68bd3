//! Bytes that were changed, blindly or by someone who knows how a WebAssembly binary is built.

use proptest::prelude::*;
use proptest::sample::Index;

/// One change to a run of bytes.
#[derive(Debug, Clone)]
pub(crate) enum Edit {
    Flip(Index, u8),
    Set(Index, u8),
    /// A 32-bit number that looks like a length or a place.
    Overwrite(Index, u32),
    Truncate(Index),
    Remove(Index, u8),
    Repeat(Index, u8),
    Insert(Index, Vec<u8>),
    Swap(Index, Index),
}

pub(crate) fn edit() -> impl Strategy<Value = Edit> {
    let place = || any::<Index>();
    let number = prop_oneof![
        Just(0),
        Just(1),
        Just(0x7f),
        Just(0x80),
        Just(0xffff),
        Just(0x7fff_ffff),
        Just(u32::MAX),
        any::<u32>()
    ];
    prop_oneof![
        12 => (place(), 0..8_u8).prop_map(|(place, bit)| Edit::Flip(place, bit)),
        6 => (place(), any::<u8>()).prop_map(|(place, byte)| Edit::Set(place, byte)),
        2 => (place(), number).prop_map(|(place, number)| Edit::Overwrite(place, number)),
        1 => place().prop_map(Edit::Truncate),
        1 => (place(), any::<u8>()).prop_map(|(place, count)| Edit::Remove(place, count)),
        1 => (place(), any::<u8>()).prop_map(|(place, count)| Edit::Repeat(place, count)),
        1 => (place(), prop::collection::vec(any::<u8>(), 0..32)).prop_map(|(place, bytes)| Edit::Insert(place, bytes)),
        1 => (place(), place()).prop_map(|(one, other)| Edit::Swap(one, other)),
    ]
}

impl Edit {
    pub(crate) fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        if length == 0 {
            return;
        }
        let run = |place: &Index, count: u8| {
            place.index(length)..(place.index(length) + usize::from(count)).min(length)
        };
        match self {
            Self::Flip(place, bit) => bytes[place.index(length)] ^= 1 << bit,
            Self::Set(place, byte) => bytes[place.index(length)] = *byte,
            Self::Overwrite(place, number) => {
                let run = run(place, 4);
                let count = run.len();
                bytes[run].copy_from_slice(&number.to_le_bytes()[..count]);
            }
            Self::Truncate(place) => bytes.truncate(place.index(length)),
            Self::Remove(place, count) => drop(bytes.drain(run(place, *count))),
            Self::Repeat(place, count) => {
                let copy = bytes[run(place, *count)].to_vec();
                let at = place.index(length);
                bytes.splice(at..at, copy);
            }
            Self::Insert(place, more) => {
                let at = place.index(length);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Swap(one, other) => bytes.swap(one.index(length), other.index(length)),
        }
    }
}

/// One change to a WebAssembly binary.
#[derive(Debug, Clone)]
pub(crate) enum Mutation {
    /// To its bytes, whatever they are.
    Bytes(Edit),
    /// Inside one of its sections; the lengths around it are put right again.
    Inside(Index, Box<Mutation>),
    SwapSections(Index, Index),
    RepeatSection(Index, Index),
    RemoveSection(Index),
    /// A section becomes one of another kind.
    Retype(Index, u8),
}

pub(crate) fn mutation() -> impl Strategy<Value = Mutation> {
    let place = || any::<Index>();
    let leaf = prop_oneof![
        16 => edit().prop_map(Mutation::Bytes),
        1 => (place(), place()).prop_map(|(one, other)| Mutation::SwapSections(one, other)),
        1 => (place(), place()).prop_map(|(one, other)| Mutation::RepeatSection(one, other)),
        1 => place().prop_map(Mutation::RemoveSection),
        1 => (place(), 0..14_u8).prop_map(|(place, kind)| Mutation::Retype(place, kind)),
    ];
    let inside = |inner: BoxedStrategy<Mutation>| {
        (any::<Index>(), inner).prop_map(|(place, inner)| Mutation::Inside(place, Box::new(inner)))
    };
    let leaf = leaf.boxed();
    let section = inside(leaf.clone()).boxed();
    // Most of what a component is lies in its modules: two sections deep.
    prop_oneof![1 => leaf, 2 => section.clone(), 6 => inside(section)]
}

impl Mutation {
    pub(crate) fn apply(&self, bytes: &mut Vec<u8>) {
        let (header, mut sections) = match split(bytes) {
            Some((header, sections)) if !sections.is_empty() => (header, sections),
            // Not built of sections: what lies inside is the bytes themselves.
            _ => return self.innermost().apply(bytes),
        };
        let count = sections.len();
        match self {
            Self::Bytes(edit) => return edit.apply(bytes),
            Self::Inside(place, inner) => {
                // The larger a section, the more often.
                let mut left = place.index(bytes.len());
                let chosen = sections.iter_mut().find(|(_, body)| {
                    left.checked_sub(body.len()).map(|rest| left = rest).is_none()
                });
                if let Some((_, body)) = chosen {
                    inner.apply(body);
                }
            }
            Self::SwapSections(one, other) => sections.swap(one.index(count), other.index(count)),
            Self::RepeatSection(one, at) => {
                sections.insert(at.index(count), sections[one.index(count)].clone())
            }
            Self::RemoveSection(place) => drop(sections.remove(place.index(count))),
            Self::Retype(place, kind) => sections[place.index(count)].0 = *kind,
        }
        *bytes = join(&header, &sections);
    }

    fn innermost(&self) -> Edit {
        match self {
            Self::Bytes(edit) => edit.clone(),
            Self::Inside(_, inner) => inner.innermost(),
            Self::SwapSections(one, other) => Edit::Swap(*one, *other),
            Self::RepeatSection(place, _) => Edit::Repeat(*place, 16),
            Self::RemoveSection(place) => Edit::Remove(*place, 1),
            Self::Retype(place, kind) => Edit::Set(*place, *kind),
        }
    }
}

/// Its kind, and what is in it.
type Section = (u8, Vec<u8>);

/// The header and the sections of a binary that can be taken apart.
fn split(bytes: &[u8]) -> Option<(Vec<u8>, Vec<Section>)> {
    let (header, mut rest) =
        bytes.split_at_checked(8).filter(|(header, _)| header.starts_with(b"\0asm"))?;
    let mut sections = Vec::new();
    while let Some((kind, after)) = rest.split_first() {
        let (length, after) = length(after)?;
        let (body, after) = after.split_at_checked(length)?;
        sections.push((*kind, body.to_vec()));
        rest = after;
    }
    Some((header.to_vec(), sections))
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let end = bytes.iter().take(5).position(|byte| byte & 0x80 == 0)? + 1;
    let number =
        bytes[..end].iter().rev().fold(0_u64, |number, byte| number << 7 | u64::from(byte & 0x7f));
    Some((usize::try_from(number).ok()?, &bytes[end..]))
}

fn join(header: &[u8], sections: &[Section]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    for (kind, body) in sections {
        bytes.push(*kind);
        crate::handmade::push_length(&mut bytes, body.len());
        bytes.extend(body);
    }
    bytes
}
