//! What is seen of a run while it lasts, on standard error: what the pipeline says comes in, a picture that is drawn over
//! itself comes out on a terminal, and elsewhere a line now and then. What is drawn is decided in `state` and `draw`, which
//! are pure; `screen` is the terminal, and this file the thread that draws.

mod draw;
mod plain;
mod screen;
mod state;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ci_model::outcome::Progress;

use screen::Screen;
use state::State;

/// Time between two pictures, at least.
const FRAME: Duration = Duration::from_millis(100);

/// Shows progress until it is dropped.
pub(crate) struct Live {
    began: Instant,
    how: How,
}

enum How {
    Picture { state: Arc<Mutex<State>>, end: Option<mpsc::Sender<()>>, drawer: Option<JoinHandle<()>> },
    Lines(plain::Plain),
}

impl Live {
    /// A picture where standard error is a terminal that can be drawn on, lines elsewhere.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(paint: bool) -> io::Result<Self> {
        let began = Instant::now();
        if !screen::is_live() {
            return Ok(Self { began, how: How::Lines(plain::Plain::default()) });
        }
        restore_when_panicking();
        let state = Arc::new(Mutex::new(State::default()));
        let (end, ended) = mpsc::channel();
        let theirs = Arc::clone(&state);
        let drawer = std::thread::Builder::new()
            .name("progress".into())
            .spawn(move || draw_until(&ended, &theirs, began, Screen::new(paint)))?;
        Ok(Self { began, how: How::Picture { state, end: Some(end), drawer: Some(drawer) } })
    }

    /// Takes what the pipeline says.
    pub(crate) fn hear(&mut self, progress: &Progress) {
        let now = self.began.elapsed();
        match &mut self.how {
            How::Picture { state, .. } => {
                state.lock().unwrap_or_else(PoisonError::into_inner).hear(progress, now);
            }
            How::Lines(plain) => {
                for line in plain.hear(progress, now) {
                    screen::say(&line);
                }
            }
        }
    }

    /// It went well: the last picture says so.
    pub(crate) fn finish(self) {
        if let How::Picture { state, .. } = &self.how {
            state.lock().unwrap_or_else(PoisonError::into_inner).finish(self.began.elapsed());
        }
    }
}

impl Drop for Live {
    /// Draws the last picture and gives the cursor back.
    fn drop(&mut self) {
        if let How::Picture { end, drawer, .. } = &mut self.how {
            end.take();
            if let Some(drawer) = drawer.take() {
                let _ = drawer.join(); // a drawer that panicked has said so
            }
        }
    }
}

/// A panic ends the program where it stands, and nothing is dropped then.
fn restore_when_panicking() {
    let said_before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        screen::restore();
        said_before(panic);
    }));
}

/// Draws again and again, until nobody holds the other end.
fn draw_until(ended: &mpsc::Receiver<()>, state: &Mutex<State>, began: Instant, mut screen: Screen) {
    loop {
        let is_over = !matches!(ended.recv_timeout(FRAME), Err(RecvTimeoutError::Timeout));
        let drawn = screen.draw(|width, paint| {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            draw::draw(&state, began.elapsed(), width, paint)
        });
        if is_over || drawn.is_err() {
            return; // `screen` gives the cursor back
        }
    }
}

/// Gives the terminal its cursor back, for good.
pub(crate) fn restore() {
    screen::restore();
}

/// Whether standard error can be painted on.
pub(crate) fn is_terminal() -> bool {
    screen::is_live()
}
