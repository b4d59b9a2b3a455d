//! Row ids with a type, so that the id of one table cannot be handed to another.

/// Declares a newtype over a row id which goes in and out of SQL as an integer.
///
/// ```
/// sqlite_kit::typed_id!(
///     /// Names one request.
///     RequestId
/// );
/// assert_eq!(RequestId(7).to_string(), "7");
/// ```
#[macro_export]
macro_rules! typed_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl $crate::rusqlite::types::ToSql for $name {
            fn to_sql(&self) -> $crate::rusqlite::Result<$crate::rusqlite::types::ToSqlOutput<'_>> {
                ::std::result::Result::Ok(self.0.into())
            }
        }

        impl $crate::rusqlite::types::FromSql for $name {
            fn column_result(
                value: $crate::rusqlite::types::ValueRef<'_>,
            ) -> $crate::rusqlite::types::FromSqlResult<Self> {
                value.as_i64().map($name)
            }
        }
    };
}
