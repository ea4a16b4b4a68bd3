//! What happens to a slot that was missed, or that comes while an earlier job is unfinished.

use std::fmt;
use std::str::FromStr;

/// What happens to slots that fell due while nothing ticked: the app was closed, the machine
/// asleep, the loop busy with a long job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Missed {
    /// One job is made, for the last of them. It can read its slot and how many it stands for.
    #[default]
    Coalesce,
    /// No job is made. A slot found due more than a minute late is skipped. If several are found
    /// due at once, all but the last are skipped.
    Skip,
    /// One job is made for each of the last `n` slots, from 1 to [`Missed::REPLAY_MAX`]. Earlier
    /// ones are skipped.
    Replay(u32),
}

impl Missed {
    /// The most slots that are each made up for by a job.
    pub const REPLAY_MAX: u32 = 10_000;
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coalesce => f.write_str("coalesce"),
            Self::Skip => f.write_str("skip"),
            Self::Replay(most) => write!(f, "replay {most}"),
        }
    }
}

impl FromStr for Missed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(' ') {
            None if text == "coalesce" => Ok(Self::Coalesce),
            None if text == "skip" => Ok(Self::Skip),
            Some(("replay", most)) => {
                most.parse().map(Self::Replay).map_err(|error| error.to_string())
            }
            _ => Err(format!(
                "{text:?} is no policy for missed slots: use coalesce, skip or `replay N`"
            )),
        }
    }
}

/// What happens to a slot while an earlier job of the same schedule is unfinished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overlap {
    /// It makes no job, and the ledger says why.
    #[default]
    Forbid,
    /// It makes its job all the same.
    Allow,
}

impl Overlap {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Forbid => "forbid",
            Self::Allow => "allow",
        }
    }
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Overlap {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [Self::Forbid, Self::Allow].into_iter().find(|overlap| overlap.as_str() == word).ok_or_else(
            || format!("{word:?} is no policy for overlapping slots: use forbid or allow"),
        )
    }
}
