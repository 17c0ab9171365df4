//! Numbers of a step with what they are, declared where they are made.

/// What a number in a line of metrics is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// The key in the line.
    pub name: &'static str,
    /// Its unit; `share` for 0 to 1, `count` for whole numbers, empty for what has none.
    pub unit: &'static str,
    /// A sentence or two.
    pub about: &'static str,
}

/// Whether a line leaves a value out.
pub trait Absent {
    /// True of a value that was not measured.
    fn absent(&self) -> bool {
        false
    }
}

impl Absent for f64 {}
impl Absent for u64 {}
impl Absent for usize {}

impl<T> Absent for Option<T> {
    fn absent(&self) -> bool {
        self.is_none()
    }
}

/// Declares a struct of numbers: each with a sentence, a type and a unit. It is serialised as keys of a line, without those that are
/// absent, and has the constant `NUMBERS`, of which the catalogue is made.
///
/// ```
/// engine::numbers! {
///     /// What a probe found.
///     pub struct ProbeMetrics {
///         /// Heat of the probe.
///         probe_heat: Option<f64> = "kelvin";
///     }
/// }
/// assert_eq!((ProbeMetrics::NUMBERS[0].name, ProbeMetrics::NUMBERS[0].unit), ("probe_heat", "kelvin"));
/// assert_eq!(ProbeMetrics::NUMBERS[0].about, "Heat of the probe.");
/// ```
#[macro_export]
macro_rules! numbers {
    (
        $(#[doc = $about:literal])+
        $vis:vis struct $name:ident {
            $( $(#[doc = $doc:literal])+ $field:ident : $type:ty = $unit:literal; )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Default, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(default)]
        $vis struct $name {
            $(
                $(#[doc = $doc])+
                #[serde(skip_serializing_if = "::engine::metrics::Absent::absent")]
                pub $field: $type,
            )+
        }

        impl $name {
            /// What the numbers are.
            $vis const NUMBERS: &'static [$crate::metrics::Number] = &[
                $( $crate::metrics::Number {
                    name: stringify!($field),
                    unit: $unit,
                    about: concat!($($doc),+).trim_ascii(),
                }, )+
            ];
        }
    };
}
