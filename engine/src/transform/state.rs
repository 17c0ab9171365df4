//! What a transform remembers from update to update.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::kernels::trim_heap;
use crate::model::weights::missing;
use crate::model::{Flat, FlatLayout};
use crate::{EngineError, Result, Tensors};

/// A number for every weight in each of some slots, and the count of updates. Before the first update it may hold what was
/// restored, until the parameters that it is of are known.
pub struct State {
    names: &'static [&'static str],
    slots: Vec<Flat>,
    step: u32,
    restored: Tensors,
}

impl State {
    /// The state at the start of a run.
    pub(super) fn new(names: &'static [&'static str]) -> Self {
        Self { names, slots: Vec::new(), step: 0, restored: Tensors::new() }
    }

    /// Updates until now.
    pub fn step(&self) -> u32 {
        self.step
    }

    /// Counts an update: the first is 1.
    pub fn next_step(&mut self) -> u32 {
        self.step += 1;
        self.step
    }

    /// All slots, in the order of [`super::Transform::slots`].
    ///
    /// # Panics
    /// If the transform has another number of them.
    pub fn slots<const N: usize>(&mut self) -> [&mut Flat; N] {
        let count = self.slots.len();
        match <[&mut Flat; N]>::try_from(self.slots.iter_mut().collect::<Vec<_>>()) {
            Ok(slots) => slots,
            Err(_) => panic!("{count} slots, not {N}"),
        }
    }

    /// A slot by its name, once there was an update or a restored state was settled.
    pub(crate) fn slot(&self, name: &str) -> Option<&Flat> {
        let place = self.names.iter().position(|known| *known == name)?;
        self.slots.get(place)
    }

    /// Puts a tensor that [`Self::entries`] named back, until there are parameters to hold it against.
    pub(super) fn restore(&mut self, name: &str, tensor: Tensor) -> std::result::Result<(), String> {
        let known =
            name == "step" || name.split_once('.').is_some_and(|(slot, _)| self.names.contains(&slot));
        if !known || self.names.is_empty() {
            let wanted: Vec<String> = self.names.iter().map(|slot| format!("{slot}.…")).collect();
            return Err(format!("is nothing that the transform keeps; wanted step, {}", wanted.join(", ")));
        }
        self.slots.clear();
        self.restored.insert(name.to_owned(), tensor);
        Ok(())
    }

    /// Whether what was restored is of these parameters.
    pub(super) fn check(&self, layout: &FlatLayout) -> Result<()> {
        for (name, tensor) in self.restored.iter().filter(|(name, _)| *name != "step") {
            let parameter = name.split_once('.').map_or("", |(_, parameter)| parameter);
            let problem = match layout.shape(parameter) {
                Some(shape) if shape == tensor.dims() => continue,
                Some(shape) => format!("has shape {:?}; wanted {shape:?}", tensor.dims()),
                None => "is of no parameter that the transform is for".to_owned(),
            };
            return Err(EngineError::State { name: name.clone(), problem });
        }
        Ok(())
    }

    /// Makes room for these parameters, with what was restored or zeros. Tensors are taken out one by one, so that what is
    /// restored is not held twice.
    pub(super) fn settle(&mut self, layout: &Arc<FlatLayout>) -> Result<()> {
        if self.slots.len() == self.names.len() {
            return Ok(());
        }
        if let Some(step) = self.restored.remove("step") {
            self.step = step.to_vec1::<u32>()?.first().copied().unwrap_or(0);
        }
        for slot in self.names {
            let mut flat = Flat::fresh(layout);
            for parameter in layout.names() {
                if let Some(saved) = self.restored.remove(&format!("{slot}.{parameter}")) {
                    flat.get_mut(parameter).copy_from_slice(&saved.flatten_all()?.to_vec1::<f32>()?);
                }
            }
            self.slots.push(flat);
        }
        trim_heap();
        Ok(())
    }

    /// Names and shapes of all that outlives an update; nothing before the first.
    pub(super) fn entries(&self) -> Vec<(String, Vec<usize>)> {
        let restored = self.restored.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec()));
        let mut all: Vec<_> = restored.collect();
        if self.slots.is_empty() {
            return all;
        }
        if self.step > 0 {
            all.push(("step".into(), vec![1]));
        }
        for (slot, flat) in self.names.iter().zip(&self.slots) {
            let shape = |name| flat.layout().shape(name).unwrap_or_default().to_vec();
            all.extend(flat.layout().names().map(|name| (format!("{slot}.{name}"), shape(name))));
        }
        all
    }

    /// A copy of an entry.
    pub(super) fn tensor(&self, name: &str) -> candle_core::Result<Tensor> {
        if let Some(restored) = self.restored.get(name) {
            return Ok(restored.clone());
        }
        match self.find(name) {
            Some((flat, parameter)) => flat.tensor(parameter),
            None if name == "step" && self.step > 0 => Tensor::new(&[self.step], &Device::Cpu),
            None => Err(missing(name)),
        }
    }

    /// The numbers of an entry, lent where they lie.
    pub(super) fn numbers(&self, name: &str) -> candle_core::Result<Cow<'_, [f32]>> {
        match self.find(name) {
            Some((flat, parameter)) => Ok(Cow::Borrowed(flat.get(parameter))),
            None => Ok(Cow::Owned(self.tensor(name)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)),
        }
    }

    fn find<'a>(&self, name: &'a str) -> Option<(&Flat, &'a str)> {
        let (slot, parameter) = name.split_once('.')?;
        self.slot(slot).filter(|flat| flat.has(parameter)).map(|flat| (flat, parameter))
    }
}
