//! What no runtime says, what a socket may turn out to be, and a disk that is full: an answer with its code, and nothing leaked.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use roadstead_e2e::{Scene, output_of, product, scene};
use serde_json::{Value, json};

use super::{Container, POOLS, SOON, Stage, addresses, check_refused};

#[test]
fn bad_calls_get_their_code_and_leak_nothing() -> Result<()> {
    scene("cni-bad-calls", bad_calls)
}

fn bad_calls(scene: &Scene) -> Result<()> {
    let stage = Stage::build(scene, POOLS)?;
    let config = stage.config("ipvlan", "ens5");
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let huge = format!(r#"{{"cniVersion":"1.0.0","name":"ens5","x":"{}"}}"#, "x".repeat(5 << 20));
    for (what, code, stdin) in [
        ("nothing", 6, &b""[..]),
        ("garbage", 6, b"\x00\xff\xfe{{{"),
        ("a list", 6, b"[]"),
        ("half of it", 6, br#"{"cniVersion":"1.0.0""#),
        ("deep", 6, deep.as_bytes()),
        ("huge", 5, huge.as_bytes()),
        ("a version of tomorrow", 1, br#"{"cniVersion":"2.0.0","name":"ens5"}"#),
    ] {
        check_refused(raw_call(stdin), code, &[]).with_context(|| what.to_owned())?;
    }

    // Whatever else comes in by the socket, an ADD is served. Questions that are never finished are left open meanwhile.
    let socket = stage.socket()?;
    let mut unfinished = Vec::new();
    for _ in 0..100 {
        let mut stream = UnixStream::connect(&socket).context("the socket")?;
        stream.write_all(b"POST /v1/cni/add HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n{")?;
        unfinished.push(stream);
    }
    let headers = |length: usize| {
        format!("POST /v1/cni/add HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n")
    };
    for (status, question) in [
        ("HTTP/1.1 400", b"\x16\x03\x01\x02\x00garbage\r\n\r\n".to_vec()),
        ("HTTP/1.0 404", b"POST /v1/cni/other HTTP/1.0\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ("HTTP/1.0 400", [headers(3).as_bytes(), b"{{{"].concat()),
        ("HTTP/1.0 422", [headers(2).as_bytes(), b"{}"].concat()),
        ("HTTP/1.0 413", [headers(5 << 20).as_bytes(), &vec![b' '; 5 << 20]].concat()),
    ] {
        let answer = raw_question(&socket, &question)?;
        ensure!(answer.starts_with(status), "not {status}: {answer:.300}");
    }
    stage.call("ADD", &config, &Container::named("among-them"))?;
    stage.call("DEL", &config, &Container::named("among-them"))?;
    drop(unfinished);

    bad_sockets(scene, &stage, &config)?;
    // Nothing of all that has taken an address: every one of the range can be had.
    for number in 0..12 {
        stage.call("ADD", &config, &Container::named(&format!("n{number}")))?;
    }
    check_refused(stage.call("ADD", &config, &Container::named("n12")), 101, &["no IPv4 address is free"])
}

/// A socket that is none, that is somebody else's, or that answers nonsense.
fn bad_sockets(scene: &Scene, stage: &Stage<'_>, config: &Value) -> Result<()> {
    let directory = scene.subdirectory("sockets")?;
    let container = Container::named("c1");
    let call = |socket: &Path| {
        let mut config = config.clone();
        config["ipam"]["socket"] = json!(socket);
        stage.call("ADD", &config, &container)
    };
    let (file, link, foreign, silly) =
        (directory.join("file"), directory.join("link"), directory.join("foreign"), directory.join("silly"));
    fs::write(&file, "").context("cannot write")?;
    std::os::unix::fs::symlink(stage.socket()?, &link).context("cannot link")?;
    check_refused(call(&directory.join("none")), 11, &["none"])?;
    check_refused(call(&file), 11, &["it is no socket"])?;
    check_refused(call(&link), 11, &["it is no socket"])?;
    let _listener = UnixListener::bind(&foreign).context("cannot listen")?;
    output_of(Command::new("chown").arg("65534").arg(&foreign))?;
    check_refused(call(&foreign), 11, &["belongs to user 65534"])?;
    let listener = UnixListener::bind(&silly).context("cannot listen")?;
    let answering = std::thread::spawn(move || {
        for answer in [&b"\x00\xff"[..], b"HTTP/1.0 200 OK\r\n\r\nnonsense", b"HTTP/1.0 500 No\r\n\r\nnonsense", b""] {
            let Ok((mut stream, _)) = listener.accept() else { return };
            // The question is of no interest, but a reset would come before the answer if it were left unread.
            let _ = stream.read(&mut [0; 65536]);
            let _ = stream.write_all(answer);
        }
    });
    for words in ["no HTTP", "its answer is none", "HTTP 500: nonsense", "no HTTP"] {
        check_refused(call(&silly), 11, &[words])?;
    }
    answering.join().map_err(|_| anyhow::anyhow!("who answers nonsense panicked"))
}

#[test]
fn a_full_disk_gives_no_address_and_loses_none() -> Result<()> {
    scene("cni-full-disk", full_disk)
}

fn full_disk(scene: &Scene) -> Result<()> {
    let state = scene.subdirectory("state-node-1")?;
    output_of(Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(&state))?;
    let mut stage = Stage::build(scene, POOLS)?;
    let config = stage.config("ipvlan", "ens5");
    let before = stage.call("ADD", &config, &Container::named("before"))?;
    // The journal's last page has room still: it is written full as well.
    let filler = state.join("filler");
    let fill = || {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&filler)?;
        while file.write_all(&[0; 4096]).is_ok() {}
        Ok::<_, std::io::Error>(())
    };
    fill().context("cannot fill the disk")?;
    let mut given = 1;
    let refused = (0..100).find_map(|number| {
        let answer = stage.call("ADD", &config, &Container::named(&format!("full-{number}")));
        given += usize::from(answer.is_ok());
        answer.err()
    });
    check_refused(
        Err(refused.context("a full disk was not noticed")?),
        5,
        &["journal of addresses cannot be written"],
    )?;
    // Who has an address keeps it, over a restart as well, and those that were refused have none.
    ensure!(addresses(&stage.call("ADD", &config, &Container::named("before"))?) == addresses(&before));
    fs::remove_file(&filler).context("cannot make room")?;
    let mut speaker = stage.speaker.take().context("no speaker")?;
    speaker.signal("KILL")?;
    speaker.wait(SOON)?;
    stage.start()?;
    ensure!(addresses(&stage.call("ADD", &config, &Container::named("before"))?) == addresses(&before));
    for number in given..12 {
        stage.call("ADD", &config, &Container::named(&format!("room-{number}")))?;
    }
    check_refused(stage.call("ADD", &config, &Container::named("too-many")), 101, &["no IPv4 address is free"])
}

#[test]
fn nobody_waits_for_ever() -> Result<()> {
    scene("cni-slow", slow)
}

/// A runtime that never says what it wants, and speakers that never answer, or by an octet a second.
fn slow(scene: &Scene) -> Result<()> {
    let stage = Stage::build(scene, POOLS)?;
    let config = stage.config("ipvlan", "ens5");
    let directory = scene.subdirectory("sockets")?;
    let (silent, trickling) = (directory.join("silent.sock"), directory.join("trickling.sock"));
    let _silent = UnixListener::bind(&silent).context("cannot listen")?;
    let listener = UnixListener::bind(&trickling).context("cannot listen")?;
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut stream = stream;
                // Until whoever asked has gone.
                while stream.write_all(b"H").is_ok() {
                    std::thread::sleep(std::time::Duration::from_secs(1));
                }
            });
        }
    });
    let ask = |verb: &str, socket: &Path| {
        let mut config = config.clone();
        config["ipam"]["socket"] = json!(socket);
        stage.call(verb, &config, &Container::named("c1"))
    };
    let checks: Vec<Box<dyn FnOnce() -> Result<()> + Send + '_>> = vec![
        Box::new(|| check_refused(ask("ADD", &silent), 11, &["no answer within 60 s"])),
        Box::new(|| check_refused(ask("ADD", &trickling), 11, &["no answer within 60 s"])),
        Box::new(|| check_refused(ask("STATUS", &silent), 50, &["no answer within 60 s"])),
        // Never fails, and is not forgotten.
        Box::new(|| ask("DEL", &silent).map(drop)),
        Box::new(|| check_refused(unfinished_call(), 5, &["it has not ended within 30 s"])),
    ];
    super::at_once(checks).into_iter().collect::<Result<Vec<()>>>()?;
    let left = fs::read_dir(silent.with_extension("deletions")).context("the DEL that nobody heard is forgotten")?;
    ensure!(left.count() == 1, "the DEL that nobody heard is not what is left");
    // The speaker that is well serves meanwhile, and has nothing of all that.
    for number in 0..12 {
        stage.call("ADD", &config, &Container::named(&format!("n{number}")))?;
    }
    check_refused(stage.call("ADD", &config, &Container::named("n12")), 101, &["no IPv4 address is free"])
}

/// The plugin with a standard input of which the end never comes.
fn unfinished_call() -> Result<Value> {
    let mut call = Command::new(product::binary("roadstead-cni")?);
    Container::default().describe(&mut call);
    call.env("CNI_COMMAND", "ADD").env("CNI_PATH", "/").env("CNI_NETNS", "/run/netns/none");
    let mut process = call.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("roadstead-cni")?;
    let mut stdin = process.stdin.take().context("no standard input")?;
    stdin.write_all(b"{\"cniVersion\":\"1.0.0\",")?;
    let output = process.wait_with_output()?;
    drop(stdin);
    anyhow::bail!("{}", String::from_utf8_lossy(&output.stdout));
}

/// The plugin with anything on its standard input.
fn raw_call(stdin: &[u8]) -> Result<Value> {
    let mut call = Command::new(product::binary("roadstead-cni")?);
    Container::default().describe(&mut call);
    call.env("CNI_COMMAND", "ADD").env("CNI_PATH", "/").env("CNI_NETNS", "/run/netns/none");
    let mut process = call.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("roadstead-cni")?;
    // It may answer before it has read everything.
    let _ = process.stdin.take().context("no standard input")?.write_all(stdin);
    let output = process.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}");
    serde_json::from_str(&text).with_context(|| text.to_string())
}

fn raw_question(socket: &Path, question: &[u8]) -> Result<String> {
    let mut stream = UnixStream::connect(socket).context("the socket")?;
    stream.set_read_timeout(Some(SOON))?;
    // Too much of it may be refused before it was all said. The end of the answer is the end of the connection.
    let _ = stream.write_all(question);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
