//! The tables `verger_plugins`, `verger_plugin_versions` and `verger_plugin_code`: which component
//! each name of a dropped-in worker is bound to, what is known of it, and its bytes.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;
use verger_worker::Manifest;

use super::grant_rows::forget_grants;
use super::names::Bound;
use crate::time::Timestamp;

/// Bytes of one part. A part is written in a few milliseconds, and the app's own writes come in
/// between.
pub(super) const PART_BYTES: usize = 512 << 10;

/// A row of `verger_plugins`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BoundName {
    pub(crate) bound: Bound,
    pub(crate) previous: Option<String>,
    pub(crate) withdrawn: Option<String>,
}

/// Which component a name of a dropped-in worker belongs to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PluginBinding {
    /// The SHA-256 of the component, in hexadecimal digits.
    pub digest: String,
    /// The path of its file. The same file with other bytes is a new version.
    pub source: String,
    /// When the name was first seen.
    pub first_seen_at: Timestamp,
    /// When it got this component or path.
    pub bound_at: Timestamp,
    /// What the component says of itself, if that is known.
    pub manifest: Option<Manifest>,
}

/// Which component a name is bound to. `None` when it is free.
pub(super) fn binding(
    connection: &Connection,
    name: &str,
) -> rusqlite::Result<Option<PluginBinding>> {
    let sql = "SELECT p.digest, p.source, p.first_seen_at, p.bound_at, v.manifest \
               FROM verger_plugins p LEFT JOIN verger_plugin_versions v ON v.digest = p.digest \
               WHERE p.name = ?1";
    connection
        .prepare_cached(sql)?
        .query_row([name], |row| {
            Ok(PluginBinding {
                digest: text(row, 0)?,
                source: text(row, 1)?,
                first_seen_at: Timestamp::from_millis(row.get(2)?),
                bound_at: Timestamp::from_millis(row.get(3)?),
                manifest: Manifest::parse(&text(row, 4)?).ok(),
            })
        })
        .optional()
}

/// A row of `verger_plugin_versions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownVersion {
    pub(crate) digest: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) described: String,
    pub(crate) source: String,
    pub(crate) stamp: String,
}

/// A text of a row. If a value was written by hand and is no text, it reads as a name that nothing
/// has.
fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        _ => String::new(),
    })
}

fn optional(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(Some(text(row, column)?).filter(|text| !text.is_empty()))
}

/// All of them, by name.
pub(crate) fn bound_names(
    connection: &Connection,
) -> rusqlite::Result<BTreeMap<String, BoundName>> {
    connection
        .prepare_cached("SELECT name, digest, source, previous, withdrawn FROM verger_plugins")?
        .query_map([], |row| {
            let bound = Bound { digest: text(row, 1)?, source: text(row, 2)? };
            let (previous, withdrawn) = (optional(row, 3)?, optional(row, 4)?);
            Ok((text(row, 0)?, BoundName { bound, previous, withdrawn }))
        })?
        .collect()
}

/// Binds a name to a component, or to its new version. The version before is remembered.
pub(crate) fn bind_name(
    connection: &Connection,
    name: &str,
    to: &Bound,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO verger_plugins (name, digest, source, first_seen_at, bound_at) VALUES (?1, ?2, ?3, ?4, ?4) \
             ON CONFLICT (name) DO UPDATE SET \
             previous = CASE WHEN digest = excluded.digest THEN previous ELSE digest END, \
             withdrawn = CASE WHEN digest = excluded.digest THEN withdrawn END, \
             digest = excluded.digest, source = excluded.source, bound_at = excluded.bound_at",
        )?
        .execute((name, &to.digest, &to.source, now.as_millis()))?;
    Ok(())
}

/// Exchanges the version of a name with the one before it, which then runs.
pub(super) fn roll_back(
    connection: &Connection,
    name: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE verger_plugins SET digest = previous, previous = digest, withdrawn = digest, bound_at = ?2 \
         WHERE name = ?1 AND previous IS NOT NULL",
        (name, now.as_millis()),
    )?;
    Ok(())
}

/// Lets a version that was rolled back be taken in again.
pub(super) fn take_again(
    connection: &Connection,
    name: &str,
    digest: &str,
) -> rusqlite::Result<()> {
    let sql = "UPDATE verger_plugins SET withdrawn = NULL WHERE name = ?1 AND withdrawn = ?2";
    connection.execute(sql, [name, digest])?;
    Ok(())
}

/// The components whose bytes are there.
pub(super) fn kept_digests(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    connection
        .prepare_cached("SELECT digest FROM verger_plugin_code WHERE part = 0")?
        .query_map([], |row| text(row, 0))?
        .collect()
}

/// Frees a name and forgets its versions. Returns whether it was bound.
pub(crate) fn free_name(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let was_bound = connection.execute("DELETE FROM verger_plugins WHERE name = ?1", [name])? == 1;
    forget_versions(connection, name)?;
    // Nobody has looked at the next component of this name, so it is granted nothing.
    forget_grants(connection, name)?;
    Ok(was_bound)
}

/// What is known of every version.
pub(crate) fn known_versions(connection: &Connection) -> rusqlite::Result<Vec<KnownVersion>> {
    let sql = "SELECT digest, name, version, manifest, source, stamp FROM verger_plugin_versions";
    connection.prepare_cached(sql)?.query_map([], known_version)?.collect()
}

fn known_version(row: &Row<'_>) -> rusqlite::Result<KnownVersion> {
    Ok(KnownVersion {
        digest: text(row, 0)?,
        name: text(row, 1)?,
        version: text(row, 2)?,
        described: text(row, 3)?,
        source: text(row, 4)?,
        stamp: text(row, 5)?,
    })
}

/// Keeps what is known of a version.
pub(super) fn keep_version(
    connection: &Connection,
    version: &KnownVersion,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let KnownVersion { digest, name, version, described, source, stamp } = version;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO verger_plugin_versions (digest, name, version, manifest, source, stamp, seen_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((digest, name, version, described, source, stamp, now.as_millis()))?;
    Ok(())
}

/// The versions of a name that can go: neither the one that runs nor the one before, nor one that
/// was rolled back, nor one in the folder.
pub(super) fn outdated(
    connection: &Connection,
    name: &str,
    in_the_folder: &[String],
) -> rusqlite::Result<Vec<String>> {
    let mut digests: Vec<String> = connection
        .prepare_cached(
            "SELECT digest FROM verger_plugin_versions WHERE name = ?1 AND NOT EXISTS (SELECT 1 FROM verger_plugins AS bound \
             WHERE bound.digest = verger_plugin_versions.digest OR bound.previous = verger_plugin_versions.digest \
             OR bound.withdrawn = verger_plugin_versions.digest)",
        )?
        .query_map([name], |row| text(row, 0))?
        .collect::<Result<_, _>>()?;
    digests.retain(|digest| !in_the_folder.contains(digest));
    Ok(digests)
}

/// Forgets a version, its bytes included.
pub(super) fn forget_version(connection: &Connection, digest: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM verger_plugin_code WHERE digest = ?1")?
        .execute([digest])?;
    connection
        .prepare_cached("DELETE FROM verger_plugin_versions WHERE digest = ?1")?
        .execute([digest])?;
    Ok(())
}

fn forget_versions(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    let digests: Vec<String> = connection
        .prepare("SELECT digest FROM verger_plugin_versions WHERE name = ?1")?
        .query_map([name], |row| text(row, 0))?
        .collect::<Result<_, _>>()?;
    digests.iter().try_for_each(|digest| forget_version(connection, digest))
}

/// Cuts a component's bytes into parts. The last part is written first, so that a component with
/// its first part is complete.
pub(super) fn parts(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    bytes.chunks(PART_BYTES).enumerate().collect::<Vec<_>>().into_iter().rev()
}

/// Writes one part.
pub(super) fn write_part(
    connection: &Connection,
    digest: &str,
    (part, bytes): (usize, &[u8]),
) -> rusqlite::Result<()> {
    let part = i64::try_from(part).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO verger_plugin_code (digest, part, bytes) VALUES (?1, ?2, ?3)",
        )?
        .execute((digest, part, bytes))?;
    Ok(())
}

/// Whether the bytes of a component are there.
pub(super) fn has_code(connection: &Connection, digest: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM verger_plugin_code WHERE digest = ?1 AND part = 0")?
        .exists([digest])
}

/// The bytes of a component, if they are there. The digest tells whether they are complete.
pub(super) fn code(connection: &Connection, digest: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    if !has_code(connection, digest)? {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let mut select = connection
        .prepare_cached("SELECT bytes FROM verger_plugin_code WHERE digest = ?1 ORDER BY part")?;
    let mut rows = select.query([digest])?;
    while let Some(row) = rows.next()? {
        if let ValueRef::Blob(part) = row.get_ref(0)? {
            bytes.extend_from_slice(part);
        }
    }
    Ok(Some(bytes))
}

/// What is known of one version.
pub(super) fn version(
    connection: &Connection,
    digest: &str,
) -> rusqlite::Result<Option<KnownVersion>> {
    connection
        .prepare_cached(
            "SELECT digest, name, version, manifest, source, stamp FROM verger_plugin_versions WHERE digest = ?1",
        )?
        .query_row([digest], known_version)
        .optional()
}
