//! Transforms one after another.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::Tensor;

use super::{Context, State, Transform};
use crate::model::weights::{Source, missing};
use crate::model::{Flat, FlatLayout, ParameterKind};
use crate::{EngineError, Result};

/// A transform, and the parameters that it is for.
pub struct Link {
    transform: Box<dyn Transform>,
    /// All of them where this is empty.
    kinds: Vec<ParameterKind>,
}

impl Link {
    /// For all parameters.
    pub fn new(transform: impl Transform + 'static) -> Self {
        Self { transform: Box::new(transform), kinds: Vec::new() }
    }

    /// For parameters of these kinds alone.
    pub fn of(kinds: &[ParameterKind], transform: impl Transform + 'static) -> Self {
        Self { kinds: kinds.to_vec(), ..Self::new(transform) }
    }

    /// The same of a transform in a box; no kinds are all.
    pub(super) fn boxed(transform: Box<dyn Transform>, kinds: &[ParameterKind]) -> Self {
        Self { transform, kinds: kinds.to_vec() }
    }

    fn is_for(&self, name: &str) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&ParameterKind::of(name))
    }
}

/// Transforms one after another, each with its own state.
pub struct Chain {
    links: Vec<Link>,
    states: Vec<State>,
    /// The name of each state in what is saved: the transform's, with a number if there are several of one name.
    names: Vec<String>,
}

impl Chain {
    /// These transforms, the first one nearest to the gradients.
    pub fn new(links: Vec<Link>) -> Self {
        let states = links.iter().map(|link| State::new(link.transform.slots())).collect();
        let mut names: Vec<String> = Vec::new();
        for (place, link) in links.iter().enumerate() {
            let name = link.transform.name();
            let before = links[..place].iter().filter(|other| other.transform.name() == name).count();
            names.push(if before == 0 { name.to_owned() } else { format!("{name}_{}", before + 1) });
        }
        Self { links, states, names }
    }

    /// Numbers that it keeps of a model's parameters, beside their gradients.
    pub fn kept_numbers(&self, layout: &FlatLayout) -> usize {
        let of = |link: &Link| {
            let sizes = layout.names().filter(|name| link.is_for(name)).filter_map(|name| layout.shape(name));
            link.transform.slots().len() * sizes.map(|shape| shape.iter().product::<usize>()).sum::<usize>()
        };
        self.links.iter().map(of).sum()
    }

    /// Makes the states ready for these parameters: zeros, or what was restored.
    ///
    /// # Errors
    /// If something was restored that does not fit: nothing has changed then.
    pub fn settle(&mut self, layout: &Arc<FlatLayout>) -> Result<()> {
        let part = |link: &Link| match link.kinds.is_empty() {
            true => layout.clone(),
            false => Arc::new(layout.only(|name| link.is_for(name))),
        };
        let parts: Vec<Arc<FlatLayout>> = self.links.iter().map(part).collect();
        self.states.iter().zip(&parts).try_for_each(|(state, part)| state.check(part))?;
        self.states.iter_mut().zip(&parts).try_for_each(|(state, part)| state.settle(part))
    }

    /// Turns gradients into the change of the weights that is to be added. The states are settled.
    pub fn apply(&mut self, grads: &mut Flat, weights: &Flat, learning_rate: f64) {
        let layout = grads.layout().clone();
        for (link, state) in self.links.iter().zip(&mut self.states) {
            let names: Vec<&str> = layout.names().filter(|name| link.is_for(name)).collect();
            link.transform.apply(grads, state, &Context { weights, names: &names, learning_rate });
        }
    }

    /// The state of the transform with this name, if there is one.
    pub(crate) fn state(&mut self, name: &str) -> Option<&mut State> {
        let place = self.names.iter().position(|known| known == name)?;
        self.states.get_mut(place)
    }

    /// Puts back what one of [`Source::entries`] named.
    ///
    /// # Errors
    /// If it is none of them.
    pub fn restore(&mut self, name: &str, tensor: Tensor) -> Result<()> {
        let problem = match name.split_once('.') {
            Some((transform, rest)) => match self.state(transform) {
                Some(state) => match state.restore(rest, tensor) {
                    Ok(()) => return Ok(()),
                    Err(problem) => problem,
                },
                None => format!("belongs to no transform; there are {}", self.names.join(", ")),
            },
            None => "names no transform".to_owned(),
        };
        Err(EngineError::State { name: name.to_owned(), problem })
    }

    fn of<'a>(&self, name: &'a str) -> candle_core::Result<(&State, &'a str)> {
        let (transform, rest) = name.split_once('.').ok_or_else(|| missing(name))?;
        let place = self.names.iter().position(|known| known == transform).ok_or_else(|| missing(name))?;
        Ok((&self.states[place], rest))
    }
}

impl Source for Chain {
    /// Names begin with the transform's.
    fn entries(&self) -> Vec<(String, Vec<usize>)> {
        let of = |(name, state): (&String, &State)| {
            let name = name.clone();
            state.entries().into_iter().map(move |(entry, shape)| (format!("{name}.{entry}"), shape))
        };
        self.names.iter().zip(&self.states).flat_map(of).collect()
    }

    fn tensor(&self, name: &str) -> candle_core::Result<Tensor> {
        let (state, rest) = self.of(name)?;
        state.tensor(rest)
    }

    fn numbers(&self, name: &str) -> candle_core::Result<Cow<'_, [f32]>> {
        let (state, rest) = self.of(name)?;
        state.numbers(rest)
    }
}
