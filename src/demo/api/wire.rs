//! An answer as the events of a Messages API stream, as text; pure.

use serde_json::{Value, json};

use super::reply::{Block, Reply};

/// Length of a piece of text when the stream is slow, in characters.
const PIECE_CHARS: usize = 24;

/// The stream of `reply`, piece by piece. `id` makes message and tool ids unique.
pub(super) fn pieces(reply: &Reply, model: &str, id: &str) -> Vec<String> {
    let mut out = Vec::new();
    out.push(event(
        "message_start",
        json!({ "message": {
            "id": format!("msg_{id}"), "type": "message", "role": "assistant", "model": model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": reply.usage.to_json(1),
        }}),
    ));
    let slow = !reply.chunk_delay.is_zero();
    for (index, block) in reply.blocks.iter().enumerate() {
        let (start, deltas) = block_events(block, &format!("toolu_{id}_{index}"), slow);
        out.push(event("content_block_start", json!({ "index": index, "content_block": start })));
        for delta in deltas {
            out.push(event("content_block_delta", json!({ "index": index, "delta": delta })));
        }
        out.push(event("content_block_stop", json!({ "index": index })));
    }
    out.push(event(
        "message_delta",
        json!({
            "delta": { "stop_reason": reply.stop_reason(), "stop_sequence": null },
            "usage": reply.usage.to_json(reply.usage.output_tokens),
        }),
    ));
    out.push(event("message_stop", json!({})));
    out
}

/// The same answer as one JSON message, for a request that does not stream.
pub(super) fn message(reply: &Reply, model: &str, id: &str) -> Value {
    let content: Vec<Value> = reply
        .blocks
        .iter()
        .enumerate()
        .map(|(index, block)| match block {
            Block::Text(text) => json!({ "type": "text", "text": text }),
            Block::Thinking(text) => json!({ "type": "thinking", "thinking": text, "signature": "c2lnbmVk" }),
            Block::ToolUse { name, input } => {
                json!({ "type": "tool_use", "id": format!("toolu_{id}_{index}"), "name": name, "input": input })
            }
        })
        .collect();
    json!({
        "id": format!("msg_{id}"), "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": reply.stop_reason(), "stop_sequence": null,
        "usage": reply.usage.to_json(reply.usage.output_tokens),
    })
}

fn block_events(block: &Block, tool_id: &str, slow: bool) -> (Value, Vec<Value>) {
    match block {
        Block::Text(text) => (
            json!({ "type": "text", "text": "" }),
            split(text, slow)
                .into_iter()
                .map(|t| json!({ "type": "text_delta", "text": t }))
                .collect(),
        ),
        Block::Thinking(text) => {
            let mut deltas: Vec<Value> = split(text, slow)
                .into_iter()
                .map(|t| json!({ "type": "thinking_delta", "thinking": t }))
                .collect();
            deltas.push(json!({ "type": "signature_delta", "signature": "c2lnbmVk" }));
            (json!({ "type": "thinking", "thinking": "", "signature": "" }), deltas)
        }
        Block::ToolUse { name, input } => (
            json!({ "type": "tool_use", "id": tool_id, "name": name, "input": {} }),
            vec![json!({ "type": "input_json_delta", "partial_json": input.to_string() })],
        ),
    }
}

fn split(text: &str, slow: bool) -> Vec<String> {
    if !slow {
        return vec![text.to_owned()];
    }
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(PIECE_CHARS).map(|piece| piece.iter().collect()).collect()
}

fn event(name: &str, mut data: Value) -> String {
    data["type"] = Value::from(name);
    format!("event: {name}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::super::reply::Usage;
    use super::*;
    use std::time::Duration;

    fn data(piece: &str) -> Value {
        serde_json::from_str(piece.split_once("data: ").unwrap().1.trim()).unwrap()
    }

    #[test]
    fn the_stream_opens_with_one_output_token_and_closes_with_all() {
        let usage = Usage {
            cache_write_5m_tokens: 3,
            cache_write_1h_tokens: 4,
            output_tokens: 50,
            ..Usage::default()
        };
        let pieces = pieces(&Reply::bash("ls", usage).saying("look"), "m", "1");
        let first = data(&pieces[0]);
        assert_eq!(first["message"]["usage"]["output_tokens"], 1);
        assert_eq!(first["message"]["usage"]["cache_creation_input_tokens"], 7);
        assert_eq!(first["message"]["usage"]["cache_creation"]["ephemeral_1h_input_tokens"], 4);
        let delta = data(&pieces[pieces.len() - 2]);
        assert_eq!(delta["usage"]["output_tokens"], 50);
        assert_eq!(delta["delta"]["stop_reason"], "tool_use");
        assert!(pieces.last().unwrap().starts_with("event: message_stop\n"));
    }

    #[test]
    fn slow_text_comes_in_pieces_that_add_up() {
        let text = "ä".repeat(PIECE_CHARS * 2 + 1);
        let mut reply = Reply::text(text.clone(), Usage::default());
        reply.chunk_delay = Duration::from_millis(1);
        let sent: Vec<String> = pieces(&reply, "m", "1")
            .iter()
            .map(|p| data(p))
            .filter_map(|d| d["delta"]["text"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(sent.len(), 3);
        assert_eq!(sent.concat(), text);
    }
}
