//! Questions to services: asked again where that may help, bounded, signed, and nothing of their headers in errors.

use bytes::Bytes;
use object_kit::ask::{Question, encoded, is_address};
use object_kit::{Class, Secret};
use test_kit::http_cache::{Cache, Fault, Rule};

use crate::support::{hurried, hurry, keys, told};

#[tokio::test]
async fn a_question_is_asked_again_where_that_may_help_and_its_last_answer_given() {
    let (line, manual) = hurried();
    let server = Cache::start();
    server.insert("/a", b"hello");
    let no = |status| Fault::Answer(status, Vec::new(), "no".into());
    server.fault(Rule::once("GET", "/a", no(503)));
    server.fault(Rule::once("GET", "/a", Fault::Reset));
    server.fault(Rule::always("POST", "/b", no(500)));
    server.fault(Rule::always("GET", "/c", no(403)));
    let url = |path| format!("{}{path}", server.url());
    let get = Question::get(url("/a")).header("x-token", Secret::new("canary"));
    let reply = hurry(&manual, get.ask(&line, 5)).await.unwrap();
    assert_eq!((reply.status, &reply.body[..], reply.is_success()), (200, &b"hello"[..], true));
    assert!(reply.header("etag").is_some());
    let post = Question::post(url("/b"), Bytes::from_static(b"{}"));
    assert_eq!(hurry(&manual, post.ask(&line, 5)).await.unwrap().status, 500);
    assert_eq!(hurry(&manual, Question::get(url("/c")).ask(&line, 5)).await.unwrap().status, 403);
    let seen: Vec<_> = server.log().into_iter().map(|seen| seen.target).collect();
    assert_eq!(seen, ["/a", "/a", "/a", "/b", "/b", "/b", "/b", "/c"]);
    assert_eq!(server.log()[0].headers["x-token"], "canary");
    assert!(!format!("{get:?}").contains("canary"));
    let error = hurry(&manual, get.ask(&line, 4)).await.unwrap_err();
    assert!(told(&error).ends_with("/a: the answer has more than 4 bytes"), "{}", told(&error));
}

#[tokio::test]
async fn a_signed_question_says_who_asks_and_what_for() {
    let (line, _manual) = hurried();
    let server = Cache::start();
    let question = Question::post(server.url(), Bytes::from_static(b"{}")).signed(keys(), "mars", "moons");
    question.ask(&line, 100).await.unwrap();
    let said = &server.log()[0].headers["authorization"];
    assert!(said.contains("Credential=AKIDEXAMPLE/20260131/mars/moons/aws4_request"), "{said}");
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_without_its_secrets() {
    let (line, _manual) = hurried();
    for url in ["ftp://h/", "http://canary:canary@h/", "h:1/x", ""] {
        assert!(!is_address(url), "{url}");
        let error = Question::get(url).ask(&line, 1).await.unwrap_err();
        assert_eq!(error.class, Class::Local);
        assert!(
            told(&error).contains("that is no address") && !told(&error).contains("canary"),
            "{}",
            told(&error)
        );
    }
    let broken = Question::get("http://127.0.0.1:9/").header("x-token", Secret::new("canary\n"));
    let error = broken.ask(&line, 1).await.unwrap_err();
    assert!(
        told(&error).contains("the header x-token") && !told(&error).contains("canary"),
        "{}",
        told(&error)
    );
    assert_eq!(encoded("a/b c"), "a%2Fb%20c");
}
