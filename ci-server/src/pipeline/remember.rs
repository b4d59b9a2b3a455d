//! Evaluations on their way into the store and out of it. In: what a job evaluates to, under the key of all that it depends on;
//! out: the same, the next time, with its row. Whatever cannot be stored is the caller's to tell: it is evaluated again.

use std::sync::Arc;

use ci_model::flow::Evaluation;
use tokio::task::spawn_blocking;

use super::RunError;
use crate::store::{CHUNK_MAX, EvaluationId, EvaluationKey, EvaluationToken, Store, StoreError};

/// What was evaluated before under this key.
pub(super) async fn remembered(
    store: &Arc<dyn Store>,
    key: EvaluationKey,
) -> Result<Option<(EvaluationId, Evaluation)>, RunError> {
    let store = Arc::clone(store);
    let found = spawn_blocking(move || store.evaluation(&key)).await;
    Ok(found.expect("a question to the store does not panic: it returns its errors")?)
}

/// What became of an evaluation.
pub(super) enum Kept {
    /// It is remembered, or the same is.
    As(EvaluationId),
    /// It is remembered instead of another one, which came to something else.
    InPlace(EvaluationId),
    /// Another evaluation of this very thing is, which came to something else.
    Not,
}

/// Remembers it. What is evaluated afresh and comes to something else than what is remembered takes its place; else what
/// was there first stays.
pub(super) async fn remember(
    store: &Arc<dyn Store>,
    key: EvaluationKey,
    evaluation: Evaluation,
    afresh: bool,
) -> Result<Kept, Vec<StoreError>> {
    let store = Arc::clone(store);
    let kept = spawn_blocking(move || {
        if afresh { keep_afresh(&*store, &key, &evaluation) } else { keep(&*store, &key, &evaluation) }
    });
    kept.await.expect("writing to the store does not panic: it returns its errors")
}

fn keep(store: &dyn Store, key: &EvaluationKey, evaluation: &Evaluation) -> Result<Kept, Vec<StoreError>> {
    let close = |token| store.close_evaluation(token, &evaluation.cost);
    let (token, id) = write(store, key, evaluation, &close)?;
    if id == token.evaluation {
        return Ok(Kept::As(id));
    }
    let there = store.evaluation(key).map_err(|error| vec![error])?;
    let is_same = |(_, other): &(EvaluationId, Evaluation)| is_same(evaluation, other);
    Ok(there.filter(is_same).map_or(Kept::Not, |(id, _)| Kept::As(id)))
}

fn keep_afresh(
    store: &dyn Store,
    key: &EvaluationKey,
    evaluation: &Evaluation,
) -> Result<Kept, Vec<StoreError>> {
    let there = store.evaluation(key).map_err(|error| vec![error])?;
    if let Some((id, other)) = &there
        && is_same(evaluation, other)
    {
        return Ok(Kept::As(*id));
    }
    let replace = |token| store.replace_evaluation(token, &evaluation.cost);
    let (_, id) = write(store, key, evaluation, &replace)?;
    Ok(if there.is_some() { Kept::InPlace(id) } else { Kept::As(id) })
}

/// Writes all of it, and closes it in this way.
fn write(
    store: &dyn Store,
    key: &EvaluationKey,
    evaluation: &Evaluation,
    close: &dyn Fn(EvaluationToken) -> Result<EvaluationId, StoreError>,
) -> Result<(EvaluationToken, EvaluationId), Vec<StoreError>> {
    let token = store.begin_evaluation(key).map_err(|error| vec![error])?;
    match fill(store, token, evaluation).and_then(|()| close(token)) {
        Ok(id) => Ok((token, id)),
        Err(error) => {
            let left = store.drop_evaluation(token).err();
            Err([error].into_iter().chain(left).collect())
        }
    }
}

fn fill(store: &dyn Store, token: EvaluationToken, evaluation: &Evaluation) -> Result<(), StoreError> {
    let mut number = 0;
    for attrs in evaluation.attrs.chunks(CHUNK_MAX) {
        store.add_attrs(token, number, attrs, &[])?;
        number += 1;
    }
    for errors in evaluation.errors.chunks(CHUNK_MAX) {
        store.add_attrs(token, number, &[], errors)?;
        number += 1;
    }
    Ok(())
}

/// Do both have the same in them? Of errors that is where they are: what they say is not asked of all of them, and not of
/// the same ones each time.
fn is_same(one: &Evaluation, other: &Evaluation) -> bool {
    let places = |of: &Evaluation| of.errors.iter().map(|error| error.path.clone()).collect::<Vec<_>>();
    other.attrs == one.attrs && places(other) == places(one)
}
