//! The comparison of two evaluations: what tables say, what always holds, and what is known of real package sets.

mod alone;
mod attrs;
mod built;
mod causes;
mod data;
mod packages;
mod real;
mod steps;
mod support;
mod verdict;
