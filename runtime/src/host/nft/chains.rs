//! Chains of others that keep back what this host passes on: looked at, never changed.

use super::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_TABLE, Family, GET_RULE, HOOK_NUMBER, NEW_CHAIN,
    RULE_EXPRESSIONS, RULE_TABLE, Socket, attribute,
};
use std::io;

/// `NFT_MSG_GETCHAIN`, `NFTA_CHAIN_POLICY`.
const GET_CHAIN: u16 = NEW_CHAIN + 1;
const CHAIN_POLICY: u16 = 5;

/// `NF_INET_FORWARD`, `NF_DROP`.
const FORWARD: u32 = 2;
const DROP: u32 = 0;

/// Tables and chains of a family that drop what is passed on and no rule of theirs accepts.
pub fn dropping(family: Family) -> io::Result<Vec<(String, String)>> {
    let answers =
        Socket::open()?.dump(GET_CHAIN, family.number(), &super::Attributes::default())?;
    Ok(answers.iter().filter_map(|it| dropping_chain(it)).collect())
}

fn dropping_chain(chain: &[u8]) -> Option<(String, String)> {
    let number = |bytes: &[u8]| Some(u32::from_be_bytes(bytes.try_into().ok()?));
    let text = |kind| {
        let bytes: &[u8] = attribute(chain, kind)?;
        let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        Some(String::from_utf8_lossy(bytes).into_owned())
    };
    let hook = number(attribute(attribute(chain, CHAIN_HOOK)?, HOOK_NUMBER)?)?;
    let policy = number(attribute(chain, CHAIN_POLICY)?)?;
    let is_one = hook == FORWARD && policy == DROP;
    is_one.then_some(())?;
    Some((text(CHAIN_TABLE)?, text(CHAIN_NAME)?))
}

/// Whether a rule of a table compares with this text, an interface's name.
pub fn names(family: Family, table: &str, text: &str) -> io::Result<bool> {
    let mut body = super::Attributes::default();
    body.text(RULE_TABLE, table);
    let answers = Socket::open()?.dump(GET_RULE, family.number(), &body)?;
    let mut of_table = answers.iter().filter(|answer| {
        let name = attribute(answer, RULE_TABLE).unwrap_or_default();
        name.strip_suffix(&[0]) == Some(table.as_bytes())
    });
    Ok(of_table.any(|answer| {
        let all = attribute(answer, RULE_EXPRESSIONS).unwrap_or_default();
        all.windows(text.len()).any(|at| at == text.as_bytes())
    }))
}
