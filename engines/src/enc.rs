//! The one injective encoding that everything signed, hashed or MACed goes through (crypto.md):
//! `enc(label, f1 … fn) = u8(len label) ‖ label ‖ u8(n) ‖ (u32be(len fi) ‖ fi)…`, where every
//! label is ASCII under the prefix `quorumvault/v1/`. `encoding.py` has the same function; golden
//! vectors and a property test hold the two together.

use crate::group::Malformed;

pub const LABEL_PREFIX: &str = "quorumvault/v1/";
/// Each count is one byte.
pub const MAX_LABEL_BYTES: usize = 255 - LABEL_PREFIX.len();
pub const MAX_FIELDS: usize = 255;

/// Encode `fields` under `label`, given without the prefix.
///
/// Refuses a label that is not ASCII or too long, more than 255 fields, a field of 4 GiB.
pub fn enc(label: &str, fields: &[&[u8]]) -> Result<Vec<u8>, Malformed> {
    if !label.is_ascii() {
        return Err(Malformed::new("enc: the label must be ASCII"));
    }
    let (label_bytes, count) = match (
        u8::try_from(LABEL_PREFIX.len() + label.len()),
        u8::try_from(fields.len()),
    ) {
        (Ok(label_bytes), Ok(count)) => (label_bytes, count),
        _ => {
            return Err(Malformed::new(format!(
                "enc({label:?}): at most {MAX_LABEL_BYTES} label bytes and {MAX_FIELDS} fields"
            )))
        }
    };
    let total = 2 + usize::from(label_bytes) + fields.iter().map(|f| 4 + f.len()).sum::<usize>();
    let mut out = Vec::with_capacity(total);
    out.push(label_bytes);
    out.extend_from_slice(LABEL_PREFIX.as_bytes());
    out.extend_from_slice(label.as_bytes());
    out.push(count);
    for field in fields {
        let length = u32::try_from(field.len())
            .map_err(|_| Malformed::new(format!("enc({label:?}): a field of 4 GiB or more")))?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(field);
    }
    Ok(out)
}
