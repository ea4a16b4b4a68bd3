//! The puppet as a component.

pub(crate) const PUPPET: &[u8] = include_bytes!("../guests/puppet.wasm");

/// The puppet under another manifest, which must be no longer than its own.
pub(crate) fn puppet_as(manifest: &serde_json::Value) -> Vec<u8> {
    let find = |what: &[u8], from: usize| {
        from + PUPPET[from..].windows(what.len()).position(|window| window == what).unwrap()
    };
    let start = find(b"{\n    \"name\": \"puppet\"", 0);
    let last = b"\"absent\"]\n}";
    let end = find(last, start) + last.len();
    let mut text = manifest.to_string().into_bytes();
    assert!(text.len() <= end - start, "the manifest is too long for its place");
    text.resize(end - start, b' ');
    [&PUPPET[..start], &text, &PUPPET[end..]].concat()
}
