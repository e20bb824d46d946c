//! Asks a live server by its JSON gateway: a call costs a tenth of what etcdctl takes to start.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::HashKv;
use super::server::Server;
use crate::base64;

/// Longest wait for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// How long a server may take until it serves reads.
const READY_LIMIT: Duration = Duration::from_secs(40);

/// One key at one revision, as a server lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kv {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// Revision of the put that created the key.
    pub create_revision: i64,
    /// Revision of the newest put up to the revision listed.
    pub mod_revision: i64,
    /// Puts since the creation.
    pub version: i64,
    /// The lease, or 0.
    pub lease: i64,
}

/// A connection to one server, made again with the next request once it broke.
#[derive(Debug)]
pub struct Gateway {
    client: Connection,
    peer: Connection,
    token: Option<String>,
}

/// A refusal, in the server's words.
pub type Refusal = String;

impl Gateway {
    /// Connects to a server that was just started, and waits until it serves reads.
    #[track_caller]
    pub fn ready(server: &mut Server) -> Self {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            if let Some(status) = server.exited() {
                panic!("etcd ended with {status} instead of starting: {}", server.log());
            }
            let mut gateway = Self::to(server);
            // A read through a leader: the server has one when it answers.
            match gateway.client.try_call(
                "POST",
                "/v3/kv/range",
                &json!({ "key": base64::encode(b"a") }),
                None,
            ) {
                Ok(Ok(_)) => return gateway,
                // Who asks is looked at after a leader was.
                Ok(Err(refusal)) if refusal.contains("user name is empty") => return gateway,
                Ok(Err(_)) | Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
                other => panic!("not ready after {READY_LIMIT:?}: {other:?}"),
            }
        }
    }

    /// A connection to a server that is up, as far as the caller knows.
    #[must_use]
    pub fn to(server: &Server) -> Self {
        Self {
            client: Connection::to(server.client_url()),
            peer: Connection::to(server.peer_url()),
            token: None,
        }
    }

    /// Who asks from now on: a token of the server's, or nobody.
    pub fn set_token(&mut self, token: Option<String>) {
        self.token = token;
    }

    /// Posts `body` to `path`, e.g. `/v3/kv/put`.
    ///
    /// # Errors
    /// What the server refuses.
    #[track_caller]
    pub fn call(&mut self, path: &str, body: &Value) -> Result<Value, Refusal> {
        let token = self.token.clone();
        self.call_as(token.as_deref(), path, body)
    }

    /// As [`Self::call`], by whom `token` names.
    ///
    /// # Errors
    /// What the server refuses.
    #[track_caller]
    pub fn call_as(&mut self, token: Option<&str>, path: &str, body: &Value) -> Result<Value, Refusal> {
        self.client.call("POST", path, body, token)
    }

    /// As [`Self::call`], of a server that may end meanwhile.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn attempt(&mut self, path: &str, body: &Value) -> std::io::Result<Result<Value, Refusal>> {
        let token = self.token.clone();
        self.client.try_call("POST", path, body, token.as_deref())
    }

    /// As [`Self::call`] on a connection of its own that is given up after `limit`: nothing then says what became of it.
    #[track_caller]
    pub fn call_for(&self, limit: Duration, path: &str, body: &Value) -> Option<Result<Value, Refusal>> {
        let mut connection = Connection { address: self.client.address.clone(), stream: None };
        let stream = TcpStream::connect(&connection.address).unwrap_or_else(|e| panic!("{path}: {e}"));
        stream.set_read_timeout(Some(limit)).expect("a limit above zero");
        connection.stream = Some(BufReader::new(stream));
        connection.try_call("POST", path, body, self.token.as_deref()).ok()
    }

    /// Sends a form, as the API of version 2 takes it, and returns the answer's status.
    #[track_caller]
    pub fn form(&mut self, method: &str, path: &str, form: &str) -> u16 {
        let sent = self.client.send(method, path, "application/x-www-form-urlencoded", form, None);
        sent.unwrap_or_else(|e| panic!("{method} {path} {form}: {e}")).0
    }

    /// As [`Self::call`], for what must be done.
    #[track_caller]
    pub fn must(&mut self, path: &str, body: &Value) -> Value {
        self.call(path, body).unwrap_or_else(|refusal| panic!("{path} {body}: {refusal}"))
    }

    /// The store's revision.
    #[track_caller]
    pub fn revision(&mut self) -> i64 {
        let answer = self.must("/v3/kv/range", &json!({ "key": base64::encode(b"\0"), "count_only": true }));
        number(&answer["header"]["revision"])
    }

    /// Every key at `revision` (0: now), in key order.
    ///
    /// # Errors
    /// When the revision was compacted or is not there yet.
    #[track_caller]
    pub fn list(&mut self, revision: i64) -> Result<Vec<Kv>, Refusal> {
        let all = base64::encode(b"\0");
        let body = json!({ "key": all, "range_end": all, "revision": revision.to_string() });
        let answer = self.call("/v3/kv/range", &body)?;
        let kvs = answer["kvs"].as_array().into_iter().flatten();
        Ok(kvs
            .map(|kv| Kv {
                key: bytes(&kv["key"]),
                value: bytes(&kv["value"]),
                create_revision: number(&kv["create_revision"]),
                mod_revision: number(&kv["mod_revision"]),
                version: number(&kv["version"]),
                lease: number(&kv["lease"]),
            })
            .collect())
    }

    /// hashkv at `revision` (0: now), asked as a peer asks.
    ///
    /// # Errors
    /// When the revision was compacted or is not there yet.
    #[track_caller]
    pub fn hashkv(&mut self, revision: i64) -> Result<HashKv, Refusal> {
        self.attempt_hashkv(revision).unwrap_or_else(|e| panic!("hashkv at {revision}: {e}"))
    }

    /// As [`Self::hashkv`], of a server that may break off.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn attempt_hashkv(&mut self, revision: i64) -> std::io::Result<Result<HashKv, Refusal>> {
        let answer = self.peer.try_call("GET", "/members/hashkv", &json!({ "revision": revision }), None)?;
        Ok(answer.map(|answer| HashKv {
            hash: answer["hash"].as_u64().unwrap_or(0),
            revision: number(&answer["header"]["revision"]),
            compact_revision: number(&answer["compact_revision"]),
        }))
    }

    /// How many members a server names to one that wants to join; it may have to apply its log first.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn attempt_members_for_joiners(&mut self) -> std::io::Result<Result<usize, Refusal>> {
        let answer = self.peer.try_call("GET", "/members", &json!({}), None)?;
        Ok(answer.map(|members| members.as_array().map_or(0, Vec::len)))
    }

    /// Compacts; with `physical` the records are gone from the backend when it returns.
    ///
    /// # Errors
    /// When that was done before, or the revision is not there yet.
    #[track_caller]
    pub fn compact(&mut self, revision: i64, physical: bool) -> Result<(), Refusal> {
        let body = json!({ "revision": revision.to_string(), "physical": physical });
        self.call("/v3/kv/compaction", &body).map(drop)
    }
}

/// A number that may be text, and is left out when it is 0.
fn number(value: &Value) -> i64 {
    match value {
        Value::Null => 0,
        Value::String(text) => text.parse().unwrap_or_else(|e| panic!("{text}: {e}")),
        other => other.as_i64().unwrap_or_else(|| panic!("no number: {other}")),
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    base64::decode(value.as_str().unwrap_or_default())
}

/// One keep-alive connection.
#[derive(Debug)]
struct Connection {
    address: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Connection {
    fn to(url: &str) -> Self {
        let address = url.strip_prefix("http://").unwrap_or_else(|| panic!("no plain URL: {url}"));
        Self { address: address.to_owned(), stream: None }
    }

    #[track_caller]
    fn call(
        &mut self,
        method: &str,
        path: &str,
        body: &Value,
        token: Option<&str>,
    ) -> Result<Value, Refusal> {
        self.try_call(method, path, body, token).unwrap_or_else(|e| panic!("{method} {path} {body}: {e}"))
    }

    fn try_call(
        &mut self,
        method: &str,
        path: &str,
        body: &Value,
        token: Option<&str>,
    ) -> std::io::Result<Result<Value, Refusal>> {
        let (status, answer) = self.send(method, path, "application/json", &body.to_string(), token)?;
        if status == 200 {
            let value = serde_json::from_slice(&answer)?;
            return Ok(Ok(value));
        }
        // The gateway refuses in JSON, the peer's endpoint in plain text.
        let text = String::from_utf8_lossy(&answer).trim().to_owned();
        let message =
            serde_json::from_str::<Value>(&text).ok().and_then(|v| Some(v["message"].as_str()?.to_owned()));
        Ok(Err(message.unwrap_or(text)))
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        form: &str,
        body: &str,
        token: Option<&str>,
    ) -> std::io::Result<(u16, Vec<u8>)> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(&self.address)?;
                stream.set_read_timeout(Some(ANSWER_LIMIT))?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        let bearer = token.map(|token| format!("Authorization: {token}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{bearer}Content-Type: {form}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.get_mut().write_all((head + body).as_bytes())?;
        let answer = read_answer(&mut stream)?;
        self.stream = Some(stream);
        Ok(answer)
    }
}

/// The status and the body of one HTTP/1.1 answer.
fn read_answer(stream: &mut impl BufRead) -> std::io::Result<(u16, Vec<u8>)> {
    let wrong = |what: &str| std::io::Error::other(format!("not HTTP as etcd speaks it: {what}"));
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| wrong(&line))?;
    let (mut length, mut is_chunked) = (None, false);
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let header = line.trim_end().to_ascii_lowercase();
        match header.split_once(':').map(|(name, value)| (name, value.trim())) {
            Some(("content-length", value)) => length = value.parse::<u64>().ok(),
            Some(("transfer-encoding", value)) => is_chunked = value == "chunked",
            Some(_) => {}
            None if header.is_empty() => break,
            None => return Err(wrong(&line)),
        }
    }
    let mut body = Vec::new();
    if is_chunked {
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim_end(), 16).map_err(|_| wrong(&line))?;
            if size == 0 {
                break;
            }
            stream.by_ref().take(size).read_to_end(&mut body)?;
            line.clear();
            stream.read_line(&mut line)?;
        }
        // Trailers, which 3.4 sends with a refusal.
        while !line.trim_end().is_empty() {
            line.clear();
            stream.read_line(&mut line)?;
        }
    } else {
        let length = length.ok_or_else(|| wrong("an answer without length"))?;
        stream.take(length).read_to_end(&mut body)?;
    }
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::read_answer;

    #[test]
    fn bodies_with_a_length_and_in_chunks() {
        let plain = "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 3\r\n\r\nabcrest";
        assert_eq!(read_answer(&mut plain.as_bytes()).unwrap(), (200, b"abc".to_vec()));
        let chunked =
            "HTTP/1.1 429 Too\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(read_answer(&mut chunked.as_bytes()).unwrap(), (429, b"abc0123456789".to_vec()));
        let mut trailed =
            &b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: 1\r\n\r\nnext"[..];
        assert_eq!(read_answer(&mut trailed).unwrap(), (400, b"a".to_vec()));
        assert_eq!(trailed, b"next");
        assert!(read_answer(&mut &b"SSH-2.0-x\r\n"[..]).is_err());
        assert!(read_answer(&mut &b"HTTP/1.1 200 OK\r\n\r\n"[..]).is_err());
    }
}
