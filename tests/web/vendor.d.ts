// The libraries of a site, as far as the page uses them; they are put beside it when a site is written.

declare module "*/vendor/tokenizers.mjs" {
  export class Tokenizer {
    constructor(description: object, config: object);
    encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
    decode(tokenIds: number[], options: { skip_special_tokens: boolean }): string;
    token_to_id(token: string): number | undefined;
    id_to_token(id: number): string | undefined;
  }
}

declare module "*/vendor/jinja.mjs" {
  export class Template {
    constructor(source: string);
    render(variables: Record<string, unknown>): string;
  }
}

declare module "*/vendor/onnxruntime-web/ort-wasm-simd-threaded.mjs" {
  const factory: (options: { numThreads: number }) => Promise<any>;
  export default factory;
}

declare module "*/vendor/onnxruntime-web/ort.jspi.min.mjs" {
  export const env: any;
  export const InferenceSession: any;
  export const Tensor: any;
}
