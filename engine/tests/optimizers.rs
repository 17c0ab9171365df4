//! What holds for every optimizer that a recipe can name, and for every transform in a chain.

mod common;

use std::collections::BTreeMap;

use candle_core::Tensor;
use common::{Fixture, bits, flat};
use engine::gradient::{self, Gradients};
use engine::kernels::Kernel;
use engine::model::{Compute, Flat, Grads, Policy};
use engine::objective::Loss;
use engine::optimizer::Optimizer;
use engine::schedule::Schedule;
use engine::transform::{
    AdamW, Beta, Chain, Context, Link, Lion, Muon, OptimizerConfig, ScaleByLearningRate, ScaleByLion, Sgd,
    State, Trace, Transform, TransformConfig,
};

const ADVANTAGES: [f32; 8] = [1.0, -0.5, 0.25, -1.5, 0.75, 0.5, -1.0, 2.0];

fn rate(learning_rate: f64) -> Schedule {
    Schedule { learning_rate, ..Schedule::default() }
}

/// The gradient of −Σ advantage · log-prob.
fn weighted(f: &Fixture, policy: &Policy, advantages: &[f32; 8]) -> Gradients {
    gradient::gradients(policy, &f.completions().sequences(), 64, 1.0, &|padded| {
        let advantages = padded.column(|row| advantages[row])?;
        Ok(Loss::plain(padded.log_probs.broadcast_mul(&advantages)?.sum_all()?.neg()?))
    })
    .expect("gradients")
}

fn grads_of(f: &Fixture, policy: &Policy) -> Grads {
    weighted(f, policy, &ADVANTAGES).grads
}

/// All that a recipe can name, with settings that use every part of them.
fn all() -> Vec<(String, OptimizerConfig)> {
    let momentum = Beta::try_from(0.9).expect("a decay rate");
    let mut all: Vec<(String, OptimizerConfig)> =
        OptimizerConfig::all().into_iter().map(|(name, config)| (name.to_owned(), config)).collect();
    all.extend([
        ("adamw with decay".into(), OptimizerConfig::Adamw(AdamW { weight_decay: 0.1, ..AdamW::default() })),
        ("momentum".into(), OptimizerConfig::Sgd(Sgd { momentum, nesterov: true, ..Sgd::default() })),
        ("lion with decay".into(), OptimizerConfig::Lion(Lion { weight_decay: 0.1, ..Lion::default() })),
        ("muon with decay".into(), OptimizerConfig::Muon(Muon { weight_decay: 0.1, ..Muon::default() })),
    ]);
    all
}

/// Weights after some updates, and the state.
fn after(config: &OptimizerConfig, f: &Fixture, updates: usize) -> (Policy, Optimizer) {
    let mut policy = f.policy.copy().expect("copy");
    let mut optimizer = Optimizer::new(config, &rate(1e-3), 10);
    for _ in 0..updates {
        let grads = grads_of(f, &policy);
        optimizer.update(&mut policy, grads, 1.0).expect("update");
    }
    (policy, optimizer)
}

#[test]
fn each_goes_downhill() {
    let f = Fixture::load("qwen3-tiny");
    let loss = |policy: &Policy| weighted(&f, policy, &[1.0; 8]).loss;
    let before = loss(&f.policy);
    for (name, config) in all() {
        let mut policy = f.policy.copy().expect("copy");
        let mut optimizer = Optimizer::new(&config, &rate(1e-3), 20);
        for _ in 0..20 {
            let grads = weighted(&f, &policy, &[1.0; 8]).grads;
            optimizer.update(&mut policy, grads, 1.0).expect("update");
        }
        let end = loss(&policy);
        assert!(end < before, "{name}: {before} → {end}");
    }
}

#[test]
fn each_continues_from_its_saved_state_to_the_bit() {
    let f = Fixture::load("qwen2-tiny");
    for (name, config) in all() {
        let (mut policy, mut optimizer) = after(&config, &f, 2);
        let mut resumed = policy.copy().expect("copy");
        let mut restored = Optimizer::new(&config, &rate(1e-3), 10);
        restored.restore(optimizer.updates(), optimizer.state().expect("state")).expect("restored");
        let held = |optimizer: &Optimizer| -> BTreeMap<String, Vec<f64>> {
            let value = |x: &Tensor| x.to_dtype(candle_core::DType::F64)?.flatten_all()?.to_vec1();
            let state = optimizer.state().expect("state");
            state.iter().map(|(name, x)| (name.clone(), value(x).expect("values"))).collect()
        };
        assert_eq!(held(&restored), held(&optimizer), "{name}: before it is used");
        let grads = grads_of(&f, &policy);
        optimizer.update(&mut policy, grads.clone(), 1.0).expect("update");
        restored.update(&mut resumed, grads, 1.0).expect("update");
        assert!(bits(&resumed) == bits(&policy), "{name}");
        assert_eq!(held(&restored), held(&optimizer), "{name}");
    }
}

#[test]
fn no_result_depends_on_the_number_of_threads() {
    let f = Fixture::load("qwen3-tiny");
    for (name, config) in all() {
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| bits(&after(&config, &f, 2).0))
        };
        assert!(with(1) == with(3), "{name}");
    }
}

#[test]
fn own_kernels_and_tensors_of_candle_are_changed_alike() {
    let [fused, composed] = [Compute::Fused(Kernel::f32().expect("a path")), Compute::Composed]
        .map(|compute| Fixture::computing("qwen2-tiny", compute));
    for (name, config) in all() {
        let mut policies = [fused.policy.copy().expect("copy"), composed.policy.copy().expect("copy")];
        let changes = policies.each_mut().map(|policy| {
            let grads = grads_of(&fused, policy);
            Optimizer::new(&config, &rate(1e-3), 10).update(policy, grads, 1.0).expect("update");
            let tensors = policy.tensors().expect("tensors");
            tensors.values().flat_map(flat).collect::<Vec<f32>>()
        });
        let far = changes[0].iter().zip(&changes[1]).filter(|(a, b)| (*a - *b).abs() > 1e-5).count();
        // the sign of a gradient of about 0 is arbitrary, and so is Adam's first step there
        assert!(far * 50 < changes[0].len(), "{name}: {far} of {} differ", changes[0].len());
    }
}

#[test]
fn the_pass_of_adamw_is_its_chain_to_the_bit_in_the_same_state() {
    let f = Fixture::load("qwen3-tiny-untied");
    for (decay, clip) in [(0.0, 1.0), (0.1, 1e-3), (0.1, 0.0)] {
        let adamw = AdamW { weight_decay: decay, max_grad_norm: clip, ..AdamW::default() };
        let chain = OptimizerConfig::Chain(adamw.chain());
        assert_eq!(chain.problem(), None);
        let (fused, in_one) = after(&OptimizerConfig::Adamw(adamw), &f, 3);
        let (chained, by_parts) = after(&chain, &f, 3);
        assert!(bits(&fused) == bits(&chained), "decay {decay}, clip {clip}");
        let (a, b) = (in_one.state().expect("state"), by_parts.state().expect("state"));
        assert!(a.keys().eq(b.keys()));
        for (name, a) in &a {
            let same = (a - &b[name]).expect("a difference").abs().expect("a size");
            let most = same.to_dtype(candle_core::DType::F64).expect("f64").max_all().expect("largest");
            assert_eq!(most.to_scalar::<f64>().expect("a number"), 0.0, "{name}");
        }
    }
}

#[test]
fn sgd_is_the_gradient_times_the_rate_and_lion_changes_every_weight_by_it() {
    let f = Fixture::load("qwen2-tiny");
    let grads = grads_of(&f, &f.policy);
    let before = f.policy.tensors().expect("tensors");
    let changed = |config: OptimizerConfig| {
        let mut policy = f.policy.copy().expect("copy");
        Optimizer::new(&config, &rate(0.125), 1).update(&mut policy, grads.clone(), 1.0).expect("update");
        policy.tensors().expect("tensors")
    };
    let sgd = changed(OptimizerConfig::Sgd(Sgd { max_grad_norm: 0.0, ..Sgd::default() }));
    let lion = changed(OptimizerConfig::Lion(Lion::default()));
    for (name, grad) in grads.tensors().expect("tensors") {
        let (w, g) = (flat(&before[&name]), flat(&grad));
        for (place, (sgd, lion)) in flat(&sgd[&name]).iter().zip(flat(&lion[&name])).enumerate() {
            assert_eq!(*sgd, w[place] - 0.125 * g[place], "{name}");
            let sign = if g[place] == 0.0 { 0.0 } else { g[place].signum() };
            assert_eq!(lion, w[place] - 0.125 * sign, "{name}");
        }
    }
}

#[test]
fn momentum_and_lion_follow_their_formulas_over_updates() {
    // one weight with gradients 1, then −0.5: PyTorch's SGD with momentum 0.9 gives 1 and 0.4, with Nesterov 1.9 and −0.14
    let f = Fixture::load("qwen2-tiny");
    let name = "model.norm.weight";
    let run = |link: Link| {
        let mut policy = f.policy.copy().expect("copy");
        let chain = Chain::new(vec![Link::new(Given([1.0, -0.5])), link, Link::new(ScaleByLearningRate {})]);
        let mut optimizer = Optimizer::with_chain(chain, &rate(1.0), 2);
        let mut seen = vec![flat(&policy.tensors().expect("tensors")[name])[0]];
        for _ in 0..2 {
            let grads = grads_of(&f, &policy);
            optimizer.update(&mut policy, grads, 1.0).expect("update");
            seen.push(flat(&policy.tensors().expect("tensors")[name])[0]);
        }
        [seen[0] - seen[1], seen[1] - seen[2]]
    };
    let trace = |nesterov| Link::new(Trace { nesterov, ..Trace::default() });
    for (link, wanted) in [
        (trace(false), [1.0, 0.4]),
        (trace(true), [1.9, -0.14]),
        // m = 0.01 after the first; 0.9 · 0.01 − 0.1 · 0.5 is negative
        (Link::new(ScaleByLion::default()), [1.0, -1.0]),
    ] {
        let found = run(link);
        for (found, wanted) in found.iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-5, "{found} is not {wanted}");
        }
    }
}

/// A transform that puts a number in the place of all gradients, another one in each update.
struct Given([f32; 2]);

impl Transform for Given {
    fn name(&self) -> &'static str {
        "given"
    }

    fn apply(&self, grads: &mut Flat, state: &mut State, context: &Context<'_>) {
        let g = self.0[state.next_step() as usize - 1];
        context.names.iter().for_each(|name| grads.get_mut(name).fill(g));
    }
}

#[test]
fn muon_turns_matrices_and_leaves_the_rest_to_adam() {
    let f = Fixture::load("qwen3-tiny-untied");
    let grads = grads_of(&f, &f.policy);
    let before = f.policy.tensors().expect("tensors");
    let changed = |config: OptimizerConfig| {
        let mut policy = f.policy.copy().expect("copy");
        Optimizer::new(&config, &rate(1.0), 1).update(&mut policy, grads.clone(), 1.0).expect("update");
        policy.tensors().expect("tensors")
    };
    let (muon, adam) = (changed(OptimizerConfig::Muon(Muon::default())), changed(OptimizerConfig::default()));
    for (name, weight) in &before {
        let change = (&muon[name] - weight).expect("a change");
        if name.contains("_proj") {
            let (rows, columns) = change.dims2().expect("a matrix");
            let root = change
                .sqr()
                .expect("squares")
                .mean_all()
                .expect("mean")
                .to_scalar::<f32>()
                .expect("f32")
                .sqrt();
            // an orthogonal matrix times 0.2·√max has a root mean square of 0.2, up to what five iterations leave
            assert!((0.12..0.26).contains(&root), "{name} {rows} × {columns}: {root}");
        } else {
            assert!(flat(&muon[name]) == flat(&adam[name]), "{name}");
        }
    }
}

#[test]
fn what_a_state_needs_is_known_before_it_is_there() {
    let f = Fixture::load("qwen3-tiny");
    for (name, config) in all() {
        let (policy, optimizer) = after(&config, &f, 1);
        let layout = engine::model::FlatLayout::new(policy.config());
        let state = optimizer.state().expect("state");
        let held: usize =
            state.iter().filter(|(name, _)| !name.ends_with(".step")).map(|(_, x)| x.elem_count()).sum();
        assert_eq!(config.build().kept_numbers(&layout), held, "{name}");
    }
}

#[test]
fn a_chain_is_one_transform_a_place_and_ends_in_the_rate() {
    let read = |text: &str| -> OptimizerConfig { serde_json::from_str(text).expect("a chain") };
    for (text, part) in [
        (r#"{"chain": [{}, {"scale_by_learning_rate": {}}]}"#, "transform 1 of optimizer.chain has none"),
        (
            r#"{"chain": [{"trace": {}, "scale_by_lion": {}}, {"scale_by_learning_rate": {}}]}"#,
            "transform 1 of optimizer.chain has scale_by_lion, trace; wanted exactly one",
        ),
        (r#"{"chain": [{"trace": {}}]}"#, "must end in scale_by_learning_rate"),
        (r#"{"chain": []}"#, "must end in scale_by_learning_rate"),
        (r#"{"chain": [{"scale_by_learning_rate": {}, "kinds": ["norm"]}]}"#, "for all kinds"),
    ] {
        let problem = read(text).problem().expect("a problem");
        assert!(problem.contains(part), "{text}: {problem}");
    }
    for (name, config) in all() {
        assert_eq!(config.problem(), None, "{name}");
        let text = serde_json::to_string(&config).expect("JSON");
        assert_eq!(read(&text), config, "{text}");
    }
    let wrong = serde_json::from_str::<TransformConfig>(r#"{"trase": {}}"#).expect_err("unknown");
    assert!(wrong.to_string().contains("trase"), "{wrong}");
}

#[test]
fn a_state_is_refused_where_it_does_not_belong() {
    let f = Fixture::load("qwen2-tiny");
    let stray = Tensor::new(&[1f32], &candle_core::Device::Cpu).expect("tensor");
    for (name, part) in [
        (
            "scale_by_lion.m.model.norm.weight",
            "belongs to no transform; there are clip_by_global_norm, scale_by_adam",
        ),
        ("scale_by_adam.w.model.norm.weight", "is nothing that the transform keeps; wanted step, m.…, v.…"),
        ("clip_by_global_norm.m.x", "is nothing that the transform keeps"),
        ("m", "names no transform"),
    ] {
        let mut optimizer = Optimizer::new(&OptimizerConfig::default(), &rate(1.0), 1);
        let error =
            optimizer.restore(1, [(name.to_owned(), stray.clone())]).expect_err("refused").to_string();
        assert!(
            error.contains(name.rsplit_once('.').map_or(name, |_| name)) && error.contains(part),
            "{error}"
        );
    }
    // what no parameter of this policy is called is found when it is used, and nothing changes
    let mut optimizer = Optimizer::new(&OptimizerConfig::default(), &rate(1.0), 1);
    optimizer.restore(1, [("scale_by_adam.m.elsewhere".to_owned(), stray)]).expect("a known slot");
    let mut policy = f.policy.copy().expect("copy");
    let error = optimizer.update(&mut policy, grads_of(&f, &f.policy), 1.0).expect_err("refused").to_string();
    assert!(error.contains("is of no parameter"), "{error}");
    assert!(bits(&policy) == bits(&f.policy));
}

#[test]
fn a_state_by_places_in_the_chain_is_still_read() {
    let f = Fixture::load("qwen2-tiny");
    let (policy, optimizer) = after(&OptimizerConfig::default(), &f, 2);
    for place in ["0", "1"] {
        let old = optimizer
            .state()
            .expect("state")
            .into_iter()
            .map(|(name, tensor)| (name.replace("scale_by_adam.", &format!("{place}.")), tensor));
        let mut restored = Optimizer::new(&OptimizerConfig::default(), &rate(1e-3), 10);
        restored.restore(2, old).expect("an older state");
        let (mut resumed, mut wanted) = (policy.copy().expect("copy"), policy.copy().expect("copy"));
        let grads = grads_of(&f, &policy);
        restored.update(&mut resumed, grads.clone(), 1.0).expect("update");
        let (_, mut goes_on) = after(&OptimizerConfig::default(), &f, 2);
        goes_on.update(&mut wanted, grads, 1.0).expect("update");
        assert!(bits(&resumed) == bits(&wanted));
    }
}

/// A transform of the caller's: half of each gradient, counted.
struct Half;

impl Transform for Half {
    fn name(&self) -> &'static str {
        "half"
    }

    fn slots(&self) -> &'static [&'static str] {
        &["sum"]
    }

    fn apply(&self, grads: &mut Flat, state: &mut State, context: &Context<'_>) {
        state.next_step();
        let [sum] = state.slots();
        for name in context.names {
            for (g, sum) in grads.get_mut(name).iter_mut().zip(sum.get_mut(name)) {
                *g *= -0.5;
                *sum += *g;
            }
        }
    }
}

#[test]
fn a_chain_may_hold_transforms_of_the_callers_own_more_than_once_and_for_some_kinds() {
    let f = Fixture::load("qwen2-tiny");
    let norms = [engine::model::ParameterKind::Norm];
    let chain = Chain::new(vec![Link::new(Given([1.0; 2])), Link::new(Half), Link::of(&norms, Half)]);
    let mut optimizer = Optimizer::with_chain(chain, &rate(1.0), 1);
    let mut policy = f.policy.copy().expect("copy");
    optimizer.update(&mut policy, grads_of(&f, &f.policy), 1.0).expect("update");
    let (before, after) = (f.policy.tensors().expect("tensors"), policy.tensors().expect("tensors"));
    for (name, before) in &before {
        let wanted = if name.ends_with("norm.weight") { 0.25 } else { -0.5 };
        let change = flat(&after[name])[0] - flat(before)[0];
        assert!((change - wanted).abs() < 1e-6, "{name}: {change}");
    }
    let state = optimizer.state().expect("state");
    assert!(state.contains_key("half.sum.model.embed_tokens.weight"));
    assert!(state.contains_key("half_2.sum.model.norm.weight"));
    assert!(!state.contains_key("half_2.sum.model.embed_tokens.weight"));
}
