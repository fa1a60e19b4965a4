"""Why a model answered as it did: attribution, rollout, saliency."""
