//! The fields of a transcript's row that say what was done. Pure.
//!
//! As in `transcript::read`: what is not asked for is skipped without a copy, and what is
//! not as expected is left out.

use serde::Deserialize;

use crate::transcript::json::Raw;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawRow<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Raw<'a>,
    #[serde(borrow)]
    pub(super) timestamp: Raw<'a>,
    #[serde(borrow)]
    pub(super) is_sidechain: Raw<'a>,
    #[serde(borrow)]
    pub(super) is_api_error_message: Raw<'a>,
    #[serde(borrow)]
    pub(super) request_id: Raw<'a>,
    #[serde(borrow)]
    pub(super) request_ref: Raw<'a>,
    #[serde(borrow)]
    pub(super) api_block_index: Raw<'a>,
    #[serde(borrow)]
    pub(super) message: Raw<'a>,
}

#[derive(Deserialize)]
pub(super) struct RawMessage<'a> {
    #[serde(borrow)]
    pub(super) id: Raw<'a>,
    #[serde(borrow)]
    pub(super) content: Raw<'a>,
    #[serde(borrow)]
    pub(super) stop_reason: Raw<'a>,
}

#[derive(Deserialize)]
pub(super) struct RawBlock<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Raw<'a>,
    #[serde(borrow)]
    pub(super) text: Raw<'a>,
    #[serde(borrow)]
    pub(super) id: Raw<'a>,
    #[serde(borrow)]
    pub(super) name: Raw<'a>,
    #[serde(borrow)]
    pub(super) input: Raw<'a>,
    #[serde(borrow)]
    pub(super) tool_use_id: Raw<'a>,
    #[serde(borrow)]
    pub(super) content: Raw<'a>,
    #[serde(borrow)]
    pub(super) is_error: Raw<'a>,
}

#[derive(Deserialize)]
pub(super) struct RawInput<'a> {
    #[serde(borrow)]
    pub(super) file_path: Raw<'a>,
    #[serde(borrow)]
    pub(super) notebook_path: Raw<'a>,
    #[serde(borrow)]
    pub(super) command: Raw<'a>,
    #[serde(borrow)]
    pub(super) subagent_type: Raw<'a>,
    #[serde(borrow)]
    pub(super) offset: Raw<'a>,
    #[serde(borrow)]
    pub(super) limit: Raw<'a>,
    #[serde(borrow)]
    pub(super) pages: Raw<'a>,
}
