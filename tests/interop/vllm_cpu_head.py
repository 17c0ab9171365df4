"""For vLLM's CPU back end, version 0.32, and models whose output head is the embedding: it multiplies with a copy of the head
that it packed when the model was loaded, and `reload_weights` replaces the embedding without packing the head again. So the
server goes on with the old head, and `mismatch_kl` grows from step to step. Start the server with

    PYTHONPATH=tests/interop ... --worker-extension-cls vllm_cpu_head.Reload

and put `load_method = "reload_weights_and_head"` beside the server's url in the recipe."""


class Reload:
    def reload_weights_and_head(self, weights_path):
        self.reload_weights(weights_path=weights_path)
        model = self.model_runner.get_model()
        if model.config.tie_word_embeddings:
            model.lm_head.weight = model.model.embed_tokens.weight
            model.lm_head.quant_method.process_weights_after_loading(model.lm_head)
