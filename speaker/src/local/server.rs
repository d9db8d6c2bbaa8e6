//! The speaker's end of the socket.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use ipnet::IpNet;
use roadstead_bgp::driver::Handle;
use roadstead_bgp::{Cursor, PeerKey, RouteFilter, RouteQuery, RouteTable};
use serde::Deserialize;
use tokio::net::UnixListener;

use super::view::{ExplainView, ExplainedView, RefusalView, RouteView, RoutesView, SessionView, StatusView};
use crate::pods::Pods;
use crate::report::Moment;
use crate::session::Refusal;

/// Where the answers come from.
#[derive(Clone)]
pub struct Source {
    engine: Handle,
    node: Arc<str>,
    /// Peers that select this node and have no session; with their address.
    refused: Arc<Mutex<BTreeMap<PeerKey, (String, Refusal)>>>,
}

impl Source {
    /// The engine of a node.
    pub fn new(engine: Handle, node: &str) -> Self {
        Self { engine, node: node.into(), refused: Arc::default() }
    }

    /// Who has no session, and why.
    pub fn set_refused(&self, refused: BTreeMap<PeerKey, (String, Refusal)>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    fn refused(&self) -> BTreeMap<PeerKey, (String, Refusal)> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Makes the socket, with the directory that it lies in. One that a dead speaker has left is replaced; one that another listens on
/// is not.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another speaker listens on it"));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Answers from now on, until the process ends. Where no socket can be made there is a line in the log: routes are worth more than a
/// look at them.
pub fn start(path: &Path, source: Source, pods: Option<&Pods>) {
    let pods = pods.map(Pods::routes).unwrap_or_default();
    match bind(path) {
        Ok(listener) => drop(tokio::spawn(serve(listener, source, pods))),
        Err(error) => {
            tracing::warn!(socket = %path.display(), %error, "nobody can look at sessions and routes from here, and no pod gets an address");
        }
    }
}

async fn serve(listener: UnixListener, source: Source, pods: Router) {
    let routes = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/routes", get(routes))
        .route("/v1/explain", get(explain))
        .with_state(source)
        .merge(pods);
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!(%error, "the local socket is no longer served");
    }
}

type Answer<View> = Result<Json<View>, (StatusCode, String)>;

async fn status(State(source): State<Source>) -> Answer<StatusView> {
    let sessions = source.engine.status().await.map_err(gone)?;
    let moment = Moment::now();
    let mut sessions: Vec<SessionView> = sessions.iter().map(|status| SessionView::new(status, moment)).collect();
    sessions.extend(source.refused().into_iter().map(|(key, (address, refusal))| SessionView {
        peer: key.to_string(),
        state: "Refused".to_owned(),
        remote: address,
        last_error: Some(refusal.to_string()),
        ..SessionView::default()
    }));
    sessions.sort_by(|a, b| a.peer.cmp(&b.peer));
    Ok(Json(StatusView { version: env!("CARGO_PKG_VERSION").to_owned(), node: source.node.to_string(), sessions }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoutesQuestion {
    direction: Option<String>,
    peer: Option<String>,
    prefix: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

impl RoutesQuestion {
    fn query(&self) -> Result<RouteQuery, String> {
        let peer = self.peer.as_deref().map(PeerKey::from);
        let table = match (self.direction.as_deref(), peer) {
            (None | Some("in"), peer) => RouteTable::In(peer),
            (Some("out"), Some(peer)) => RouteTable::Out(peer),
            (Some("out"), None) => return Err("direction out needs a peer: what is told is told to one".to_owned()),
            (Some(other), _) => return Err(format!("direction {other:?}: must be in or out")),
        };
        let filter = self.prefix.as_deref().map_or(Ok(RouteFilter::All), filter)?;
        let after = self.after.as_deref().map(cursor).transpose()?;
        Ok(RouteQuery { table, filter, after, limit: self.limit.unwrap_or(RouteQuery::MOST).max(1) })
    }
}

/// A prefix stands for what lies in it, an address for what it lies in.
fn filter(text: &str) -> Result<RouteFilter, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(RouteFilter::Covering(address));
    }
    let prefix = text.parse::<IpNet>().map_err(|_| format!("prefix {text:?}: must be a prefix or an address"))?;
    Ok(RouteFilter::Within(prefix.trunc()))
}

fn cursor(text: &str) -> Result<Cursor, String> {
    let number = text.strip_prefix('n').and_then(|number| number.parse().ok()).map(Cursor::Table);
    number.or_else(|| text.parse().ok().map(Cursor::Own)).ok_or_else(|| format!("after {text:?}: was never given out"))
}

fn cursor_text(cursor: Cursor) -> String {
    match cursor {
        Cursor::Own(prefix) => prefix.to_string(),
        Cursor::Table(number) => format!("n{number}"),
    }
}

async fn routes(State(source): State<Source>, Query(question): Query<RoutesQuestion>) -> Answer<RoutesView> {
    let query = question.query().map_err(|error| (StatusCode::BAD_REQUEST, error))?;
    let page = source.engine.routes(query).await.map_err(gone)?;
    let page = page.map_err(|unknown| (StatusCode::NOT_FOUND, unknown.to_string()))?;
    Ok(Json(RoutesView { routes: page.routes.iter().map(RouteView::new).collect(), next: page.next.map(cursor_text) }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainQuestion {
    prefix: String,
}

async fn explain(State(source): State<Source>, Query(question): Query<ExplainQuestion>) -> Answer<ExplainView> {
    let prefix: IpNet = question.prefix.parse().map_err(|_| {
        (StatusCode::BAD_REQUEST, format!("prefix {:?}: must be a prefix as 192.0.2.0/24", question.prefix))
    })?;
    let prefix = prefix.trunc();
    let paths = source.engine.explain(prefix).await.map_err(gone)?;
    let sessions = source.engine.status().await.map_err(gone)?;
    let moment = Moment::now();
    let refused = sessions.iter().flat_map(|status| {
        let of_prefix = status.last_refusals.iter().filter(|refusal| refusal.prefix == prefix);
        of_prefix.map(move |refusal| RefusalView::new(status, refusal, moment))
    });
    let more =
        sessions.iter().filter(|status| status.refused.values().sum::<u64>() > status.last_refusals.len() as u64);
    Ok(Json(ExplainView {
        prefix: prefix.to_string(),
        paths: paths.iter().map(|path| ExplainedView::new(&prefix, path)).collect(),
        refused: refused.collect(),
        peers_with_more: more.map(|status| status.key.to_string()).collect(),
    }))
}

fn gone(error: impl std::fmt::Display) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(
        direction: Option<&str>,
        peer: Option<&str>,
        prefix: Option<&str>,
        after: Option<&str>,
    ) -> RoutesQuestion {
        let own = |text: Option<&str>| text.map(str::to_owned);
        RoutesQuestion {
            direction: own(direction),
            peer: own(peer),
            prefix: own(prefix),
            after: own(after),
            limit: None,
        }
    }

    #[test]
    fn questions_are_understood_or_refused_in_words() {
        let within = RouteFilter::Within("10.0.0.0/8".parse().unwrap());
        let cases = [
            (question(None, None, None, None), Ok((RouteTable::In(None), RouteFilter::All))),
            (question(Some("out"), Some("a"), Some("10.1.0.0/8"), None), Ok((RouteTable::Out("a".into()), within))),
            (question(Some("out"), None, None, None), Err("needs a peer")),
            (question(Some("sideways"), None, None, None), Err("must be in or out")),
            (question(None, None, Some("banana"), None), Err("must be a prefix or an address")),
            (question(None, None, None, Some("n")), Err("was never given out")),
        ];
        for (question, expected) in cases {
            match (question.query(), expected) {
                (Ok(query), Ok(expected)) => assert_eq!((query.table, query.filter), expected),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
                (other, expected) => panic!("{other:?} instead of {expected:?}"),
            }
        }
        for place in [Cursor::Table(7), Cursor::Own("2001:db8::/32".parse().unwrap())] {
            assert_eq!(cursor(&cursor_text(place)), Ok(place));
        }
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
        let directory = std::env::temp_dir().join(format!("roadstead-local-{}", std::process::id()));
        let path = directory.join("a/speaker.sock");
        drop(bind(&path).unwrap());
        let listener = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        fs::remove_dir_all(&directory).unwrap();
    }
}
