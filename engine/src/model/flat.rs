//! All numbers of a model in one line: weights, gradients and moments have the same layout.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

use super::ModelConfig;
use super::weights::missing;
use crate::kernels::{Buffer, squared_norm};

/// Which part of the line is which parameter.
#[derive(Debug, PartialEq)]
pub struct FlatLayout {
    names: Vec<String>,
    /// Place and shape of each.
    places: BTreeMap<String, (Range<usize>, Vec<usize>)>,
    total: usize,
}

impl FlatLayout {
    /// The parameters of a configuration, in its order.
    pub fn new(config: &ModelConfig) -> Self {
        let (mut names, mut places, mut total) = (Vec::new(), BTreeMap::new(), 0);
        for (name, shape) in config.parameters() {
            let size: usize = shape.iter().product();
            names.push(name.clone());
            places.insert(name, (total..total + size, shape));
            total += size;
        }
        Self { names, places, total }
    }

    /// Some of the parameters, in the same order.
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> Self {
        let mut part = Self { names: Vec::new(), places: BTreeMap::new(), total: 0 };
        for name in self.names.iter().filter(|name| keep(name)) {
            let (range, shape) = &self.places[name];
            part.names.push(name.clone());
            part.places.insert(name.clone(), (part.total..part.total + range.len(), shape.clone()));
            part.total += range.len();
        }
        part
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The shape of a parameter, if there is one of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.places.get(name).map(|(_, shape)| shape.as_slice())
    }
}

/// One number for every weight.
#[derive(Clone)]
pub struct Flat {
    layout: Arc<FlatLayout>,
    numbers: Buffer,
}

impl Flat {
    /// All zeros, for what is needed again and again: the memory waits for the next.
    pub fn zeros(layout: &Arc<FlatLayout>) -> Self {
        Self { layout: layout.clone(), numbers: Buffer::zeros(layout.total) }
    }

    /// All zeros, for what lives long, such as weights: the memory goes back to the system at the end.
    pub fn fresh(layout: &Arc<FlatLayout>) -> Self {
        Self { layout: layout.clone(), numbers: Buffer::fresh(layout.total) }
    }

    /// The numbers of tensors; zeros where there is none of a parameter's name.
    ///
    /// # Errors
    /// If one has another shape, or cannot be brought to the CPU.
    pub fn from_tensors(layout: &Arc<FlatLayout>, tensors: &BTreeMap<String, Tensor>) -> Result<Self> {
        let mut flat = Self::zeros(layout);
        for (name, (range, shape)) in &layout.places {
            if let Some(tensor) = tensors.get(name) {
                let numbers = tensor.reshape(shape.as_slice())?.to_device(&Device::Cpu)?.flatten_all()?;
                flat.numbers[range.clone()].copy_from_slice(&numbers.to_vec1::<f32>()?);
            }
        }
        Ok(flat)
    }

    /// What is what.
    pub fn layout(&self) -> &Arc<FlatLayout> {
        &self.layout
    }

    /// All numbers.
    pub fn numbers(&self) -> &[f32] {
        &self.numbers
    }

    /// All numbers, to be changed.
    pub fn numbers_mut(&mut self) -> &mut [f32] {
        &mut self.numbers
    }

    /// Those of one parameter.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn get(&self, name: &str) -> &[f32] {
        &self.numbers[self.at(name)]
    }

    /// Those of one parameter, to be changed.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn get_mut(&mut self, name: &str) -> &mut [f32] {
        let place = self.at(name);
        &mut self.numbers[place]
    }

    fn at(&self, name: &str) -> Range<usize> {
        match self.layout.places.get(name) {
            Some((range, _)) => range.clone(),
            None => panic!("no parameter is called `{name}`"),
        }
    }

    /// Whether there is a parameter of that name.
    pub fn has(&self, name: &str) -> bool {
        self.layout.places.contains_key(name)
    }

    /// A copy of one parameter as a tensor on the CPU.
    ///
    /// # Errors
    /// If there is none of that name, or it cannot be made.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let (range, shape) = self.layout.places.get(name).ok_or_else(|| missing(name))?;
        Tensor::from_slice(&self.numbers[range.clone()], shape.as_slice(), &Device::Cpu)
    }

    /// A copy of everything as tensors on the CPU.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        self.layout.names().map(|name| Ok((name.to_owned(), self.tensor(name)?))).collect()
    }

    /// Σ x² of every parameter, in the order of the layout.
    pub fn squared_norms(&self) -> Vec<(&str, f64)> {
        self.layout.names().map(|name| (name, squared_norm(self.get(name)))).collect()
    }
}
