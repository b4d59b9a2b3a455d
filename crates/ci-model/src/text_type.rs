//! How a text that was checked once becomes a type and text again: two macros, for the names in [`crate::id`] and in
//! [`crate::config::text`]. Leaves out the check, which is the type's `FromStr`.

/// A type that holds a checked text. `FromStr`, with this error, is the only way in.
macro_rules! text_type {
    ($(#[$doc:meta])* $type:ident: $error:ty) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Its text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        $crate::text_type::text_forms!($type: $error);
    };
}

/// The ways from and to text of a type that has `FromStr` and `as_str`.
macro_rules! text_forms {
    ($type:ident: $error:ty) => {
        impl TryFrom<String> for $type {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(one: $type) -> Self {
                one.as_str().to_owned()
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use {text_forms, text_type};
