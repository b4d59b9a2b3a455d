//! The closed sets of the protocol: numbers come in, names go out. Numbers are never reused and never
//! renumbered; an unknown one is `None` here and becomes a [`crate::WireError`] where it was read.

macro_rules! numbered {
    ($(#[$about:meta])* $name:ident: $repr:ty { $($(#[$what:meta])* $item:ident = $number:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr($repr)]
        pub enum $name { $($(#[$what])* $item = $number,)+ }

        impl $name {
            /// Every value, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$item,)+];

            /// The value with this number on the wire, if there is one.
            #[must_use]
            pub const fn from_number(number: $repr) -> Option<Self> {
                match number {
                    $($number => Some(Self::$item),)+
                    _ => None,
                }
            }

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> $repr {
                self as $repr
            }
        }
    };
}

numbered! {
    /// What a frame says.
    Kind: u16 {
        /// Queue these paths; from anyone who may open the socket, or from a spool file.
        Enqueue = 1,
        /// The daemon's one answer.
        Ack = 2,
        /// The CI builds these derivations; a hook's request for one goes only where the claim allows.
        Claim = 3,
        /// The CI is done with a claim.
        Unclaim = 4,
    }
}

numbered! {
    /// What a field holds.
    FieldTag: u8 {
        /// 16 bytes that name the request: the same key twice is the same request.
        Key = 1,
        /// Who asks ([`Source`]), one byte.
        Source = 2,
        /// A store path. Repeated.
        Path = 3,
        /// A derivation path. In an enqueue at most one, in a claim repeated.
        Drv = 4,
        /// A destination id. Repeated. None in an enqueue: the defaults; none in a claim: no destination at
        /// all.
        Destination = 5,
        /// Free printable text to find the request by.
        Tag = 6,
        /// Repository, as `owner/name`.
        Repository = 7,
        /// Branch.
        Branch = 8,
        /// Commit.
        Commit = 9,
        /// Trust class ([`Trust`]), one byte.
        Trust = 10,
        /// Priority, i32; higher goes first.
        Priority = 11,
        /// Wall clock at the client when it made the request, milliseconds since 1970, u64.
        MadeMs = 12,
        /// How long a claim holds without being repeated, seconds, u64.
        TtlSeconds = 13,
        /// What became of the request ([`Status`]), one byte.
        Status = 32,
        /// How many paths (or derivations) were taken, u32.
        Accepted = 33,
        /// How many were refused, u32.
        RefusedCount = 34,
        /// Words for a person, UTF-8.
        Text = 35,
    }
}

numbered! {
    /// Who asks.
    Source: u8 {
        /// Nix' post-build-hook.
        Hook = 1,
        /// A person at a command line.
        Cli = 2,
        /// The CI server.
        Ci = 3,
        /// Hydra's RunCommand.
        Hydra = 4,
    }
}

numbered! {
    /// How far the code behind a build is trusted; fixed when the CI took it in.
    Trust: u8 {
        /// A push to the repository itself.
        TrustedPush = 1,
        /// A pull request that someone with the right to do so approved.
        ApprovedPr = 2,
        /// Any other pull request.
        UntrustedPr = 3,
    }
}

numbered! {
    /// What became of a request. `Queued` and `Partly` mean: what was accepted is on disk.
    Status: u8 {
        /// All of it is queued.
        Queued = 0,
        /// Some is queued, some refused; the text says which and why.
        Partly = 1,
        /// None is queued, and asking again gives the same answer.
        Refused = 2,
        /// None is queued now; the same request is welcome later or through the spool.
        Busy = 3,
    }
}
